"""What serving must not import; import-linter (pyproject.toml) holds who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SERVING = sorted((ROOT / "rakuten_models").rglob("*.py")) + [ROOT / "app.py"]


TRAINING_LIBRARIES = {"tensorflow", "keras", "sklearn", "scipy", "matplotlib", "torch", "jinja2"}


def imported(path):
    """Every module that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


@pytest.mark.parametrize("path", SERVING, ids=lambda path: str(path.relative_to(ROOT)))
def test_serving_imports_nothing_of_training(path):
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & (TRAINING_LIBRARIES | {"training", "tests"})


def test_product_needs_only_the_standard_library():
    roots = {name.split(".")[0] for name in imported(ROOT / "rakuten_models" / "product.py")}
    assert roots - {"numpy"} <= set(sys.stdlib_module_names)  # numpy for annotations alone


def test_a_running_classifier_has_imported_no_training_library(tiny_bundle):
    script = (
        "import sys; from rakuten_models import Product, ProductClassifier\n"
        "print(ProductClassifier.from_pretrained(sys.argv[1]).predict(Product('chaise')).category.prdtypecode)\n"
        f"sys.exit(bool(set(sys.modules) & {TRAINING_LIBRARIES!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tiny_bundle], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdigit()
