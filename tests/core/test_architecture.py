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
    # Without site-packages.
    run("-I", "-S", "rakuten_models/product.py")


def test_a_running_classifier_has_imported_no_training_library(tiny_bundle):
    script = (
        "import sys; from rakuten_models import Product, ProductClassifier\n"
        "print(ProductClassifier.from_pretrained(sys.argv[1]).predict(Product('chaise')).category.prdtypecode)\n"
        "libraries = {'tensorflow', 'keras', 'sklearn', 'scipy', 'matplotlib', 'torch', 'jinja2'}\n"
        "sys.exit(', '.join(libraries & set(sys.modules)))"
    )
    assert run("-c", script, tiny_bundle).isdigit()
