"""What import-linter's contracts (pyproject.toml, make lint) cannot show: what is imported when the code runs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments):
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_product_needs_only_the_standard_library():
    # Without site-packages, and without the package's own __init__, which loads the classifier.
    run(
        "-S",
        "-c",
        "import sys, types; package = sys.modules['rakuten_models'] = types.ModuleType('rakuten_models')\n"
        "package.__path__ = ['rakuten_models']; import rakuten_models.product, rakuten_models.errors",
    )


def test_a_running_classifier_has_imported_no_training_library(tiny_bundle):
    script = (
        "import sys; from rakuten_models import Product, ProductClassifier\n"
        "print(ProductClassifier.from_pretrained(sys.argv[1]).predict(Product('chaise')).category.prdtypecode)\n"
        "libraries = {'tensorflow', 'keras', 'sklearn', 'scipy', 'matplotlib', 'torch', 'jinja2'}\n"
        "sys.exit(', '.join(libraries & set(sys.modules)) or 0)"
    )
    assert run("-c", script, tiny_bundle).isdigit()
