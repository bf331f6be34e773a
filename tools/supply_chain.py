"""What a Space installs: its bill of materials, its licences, and whether anything in it is known to be vulnerable.

    python -m tools.supply_chain sbom PYTHON     # sbom.json and LICENSES-DEPENDENCIES.md of an environment (make sbom)
    python -m tools.supply_chain audit           # asks OSV about every package of requirements.lock (make audit)

`audit` ends with status 1 and a line a finding if there is one; where its source cannot be reached it says so and ends
with 0, since that is no finding.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rakuten_models import __version__

ROOT = Path(__file__).resolve().parent.parent

LOCK, SBOM, LICENSES = ROOT / "requirements.lock", ROOT / "sbom.json", ROOT / "LICENSES-DEPENDENCIES.md"

# The Python that README.md's front matter names, on the machine of a Space.
SPACE = {
    "python_version": "3.12",
    "python_full_version": "3.12.12",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}

# Use, changing and passing on are free; MPL-2.0 asks for its own changed files alone.
ALLOWED = {
    *(
        "0BSD",
        "Apache-2.0",
        "BSD",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "ISC",
        "MIT",
        "MIT-CMU",
        "MPL-2.0",
    ),
    *("PSF-2.0", "Zlib"),
}

# Classifiers of packages without an SPDX expression; and a package that has neither, from its licence file.
CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}

UNNAMED = {"protobuf": "BSD-3-Clause"}

UNREACHABLE = re.compile(
    r"ConnectionError|ConnectTimeout|ReadTimeout|Timeout|Could not connect|HTTPError: (429|5\d\d)"
)


def locked(environment: dict[str, str]) -> dict[str, str]:
    """{canonical name: version} of what requirements.lock installs on a Python and a machine."""
    found = {}
    for line in re.findall(r"^(\S.*?)\s*\\?$", LOCK.read_text(encoding="utf-8"), re.MULTILINE):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (version,) = requirement.specifier
            found[canonicalize_name(requirement.name)] = version.version
    return found


def license_of(component: dict) -> str:
    """A component's licence as an SPDX expression; "" if it names none that is known."""
    named = [entry.get("expression") or entry["license"].get("id") for entry in component.get("licenses", [])]
    classified = [
        CLASSIFIERS.get(entry["license"].get("name", ""))
        for entry in component.get("licenses", [])
        if "license" in entry
    ]
    return next(filter(None, [*named, *classified]), UNNAMED.get(canonicalize_name(component["name"]), ""))


def is_allowed(expression: str) -> bool:
    """Whether every licence in an SPDX expression is on the list."""
    names = re.findall(r"[\w.-]+", re.sub(r"\b(AND|OR|WITH)\b", " ", expression))
    return bool(names) and ALLOWED.issuperset(names)


def licenses_table(sbom: dict) -> str:
    """LICENSES-DEPENDENCIES.md of a bill of materials."""
    rows = [f"| {each['name']} | {each['version']} | {license_of(each)} |" for each in sbom["components"]]
    return "\n".join(
        [
            "# Licences of what a Space installs",
            "",
            "Read off each package's metadata by `make sbom`; for Python 3.12 on Linux. A test compares them with",
            f"those that are allowed: {', '.join(sorted(ALLOWED))}.",
            "",
            "| package | version | licence |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


def write_sbom(python: str) -> None:
    """Write both files from an environment that holds requirements.lock and nothing else."""
    command = [
        "-m",
        "cyclonedx_py",
        "environment",
        "--output-reproducible",
        "--short-PURLs",
        "--sv",
        "1.6",
        python,
    ]
    made = subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True)
    sbom = json.loads(made.stdout)
    wanted = locked(SPACE)
    components = [each for each in sbom["components"] if canonicalize_name(each["name"]) in wanted]
    kept = {each["bom-ref"] for each in components}
    for each in components:
        # Addresses of other people's pages, which change; and texts that say nothing of what is installed.
        each.pop("externalReferences", None)
        each["licenses"] = [{"expression": license_of(each)}]
    sbom["components"] = sorted(components, key=lambda each: each["name"].lower())
    sbom["dependencies"] = [each for each in sbom["dependencies"] if each["ref"] in kept]
    sbom["metadata"] = {
        "component": {
            "type": "application",
            "name": "rakuten-models",
            "version": __version__,
            "bom-ref": "rakuten-models",
            "licenses": [{"license": {"id": "Apache-2.0"}}],
        }
    }
    SBOM.write_text(json.dumps(sbom, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    LICENSES.write_text(licenses_table(sbom), encoding="utf-8")


def audit(lock: Path, address: str | None) -> int:
    """Ask OSV about every package and print what it knows.

    Args:
        lock: Requirements with hashes.
        address: Another place that answers as OSV does; None for its own.

    Returns:
        0 if nothing is known, or nobody could be asked; 1 for findings; 2 if the check itself failed.
    """
    command = ["pip_audit", "-r", str(lock), "--disable-pip", "-s", "osv", "-f", "json", "--timeout", "10"]
    if address is not None:
        command += ["--osv-url", address]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--progress-spinner", "off"], capture_output=True, text=True
    )
    if not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        if UNREACHABLE.search(done.stderr):
            print("audit skipped: its source of known vulnerabilities (OSV) cannot be reached from here.")
            return 0
        print(f"error: the audit could not be made: {last}", file=sys.stderr)
        return 2
    packages = json.loads(done.stdout)["dependencies"]
    findings = [(each, known) for each in packages for known in each.get("vulns", [])]
    for each, known in findings:
        fixed = ", ".join(known["fix_versions"]) or "none yet"
        print(f"{each['name']} {each['version']}: {known['id']}, fixed in {fixed}")
    print(f"{len(packages)} packages asked about, {len(findings)} known vulnerabilities")
    return 1 if findings else 0


def main() -> int:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(prog="python -m tools.supply_chain")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sbom").add_argument("python")
    of_audit = commands.add_parser("audit")
    of_audit.add_argument("--lock", type=Path, default=LOCK)
    of_audit.add_argument("--osv-url", help="another place that answers as OSV does")
    choices = parser.parse_args()
    if choices.command == "sbom":
        write_sbom(choices.python)
        return 0
    return audit(choices.lock, choices.osv_url)


if __name__ == "__main__":
    sys.exit(main())
