"""The page's languages: labels and error sentences."""
