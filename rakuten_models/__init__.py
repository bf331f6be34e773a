"""Classify Rakuten products by text, picture or both.

from rakuten_models import Product, ProductClassifier

classifier = ProductClassifier.from_pretrained()
prediction = classifier.predict(Product(designation="Piscine tubulaire ronde 3,66 m"))
print(prediction.category.prdtypecode, prediction.category.name("en"), prediction.probability)
"""

from rakuten_models.classifier import ProductClassifier
from rakuten_models.errors import ProductError, RakutenModelsError
from rakuten_models.product import Category, Prediction, Product

__all__ = ["Category", "Prediction", "Product", "ProductClassifier", "ProductError", "RakutenModelsError"]

__version__ = "0.1.0"
