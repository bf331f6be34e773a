"""ProductClassifier: loads a bundle from a folder or a hub and gives products their categories."""

from __future__ import annotations

import base64
import logging
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from rakuten_models.bundle.config import (
    ALL_FILES,
    DEFAULT_PRECISION,
    KERAS_FILES,
    SERVING_FILES,
    SERVING_MODEL_FILES,
    TOKENIZER_FILE,
    BundleConfig,
)
from rakuten_models.bundle.folder import bundle_files, check_publishable, replace_folder, validate_bundle
from rakuten_models.errors import BundleError, ProductError, reason
from rakuten_models.hub import download, upload
from rakuten_models.inference.ensemble import Ensemble, ModelOutputs
from rakuten_models.inference.explanation import Analysis, Explanation, find_category
from rakuten_models.inference.runtime import CompiledModel, ImageModelRunner, TextModelRunner
from rakuten_models.preprocessing.text import load_tokenizer
from rakuten_models.product import Category, Prediction, Product

STARTER_FOLDER = Path(__file__).parent / "starter"

# Products that are in memory as arrays at a time.
CHUNK = 256

# Other processors round differently.
SELF_CHECK_TOLERANCE = 1e-3

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

_logger = logging.getLogger(__name__)

REPOSITORY_VARIABLE = "RAKUTEN_MODEL_REPO"
REVISION_VARIABLE = "RAKUTEN_MODEL_REVISION"
FOLDER_VARIABLE = "RAKUTEN_BUNDLE"
TRUSTED_VARIABLE = "RAKUTEN_TRUSTED"


class ProductClassifier:
    """The three models of one bundle, ready to answer. Safe to use from several threads.

    Made by `from_pretrained`.

    Attributes:
        folder: Where the bundle's files are.
        config: The bundle's settings.
        revision: The hub commit (40 hex digits) it was loaded from; None for a folder.
    """

    def __init__(
        self, folder: str | os.PathLike[str], revision: str | None = None, *, config_sha256: str | None = None
    ) -> None:
        """Load the bundle in a folder without verifying it in a sandbox; `from_pretrained` does that.

        Args:
            folder: The bundle's.
            revision: The hub commit it is from.
            config_sha256: Of the only config.json to take; None takes any.

        Raises:
            BundleError: The bundle is incomplete, altered, or contradicts itself.
        """
        self.folder = Path(folder)
        self.revision = revision
        self.config: BundleConfig = validate_bundle(self.folder, config_sha256=config_sha256)
        file = self.folder / TOKENIZER_FILE
        try:
            tokenizer = load_tokenizer(file)
        # The tokenizers library raises plain Exception.
        except Exception as error:
            raise BundleError("bundle.tokenizer_unreadable", file=file, reason=reason(error)) from error
        text_file, image_file, fusion_file = (self.folder / name for name in SERVING_MODEL_FILES)
        self._models = Ensemble(
            TextModelRunner(text_file, tokenizer, self.config.text),
            ImageModelRunner(image_file, self.config.image),
            CompiledModel(fusion_file),
            self.categories,
            self.config.calibration,
        )

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        trusted: bool = False,
    ) -> ProductClassifier:
        """Load a bundle.

        One that is neither the starter bundle nor a hub commit named by its 40 hex digits is verified in a sandbox
        first, once on a machine, in half a second; see rakuten_models/bundle/sandbox.py.

        Args:
            source: A hub id ("user/name"), a folder, or None for the starter bundle that ships with the package.
            revision: For a hub id: a branch, a tag, or a commit's 40 hex digits. All files come from one commit.
            token: For a private repository; None takes the one stored by `hf auth login`.
            cache_dir: Where downloads are kept; None takes the hub client's own cache.
            local_files_only: Use what is in the cache and ask no server.
            trusted: Load it without verifying it in a sandbox first.

        Raises:
            BundleError: The bundle is incomplete, altered, of another format, or failed in the sandbox.
            HubError: The repository or revision cannot be had.
        """
        if source is None:
            source = STARTER_FOLDER
        if os.path.isdir(source):
            if revision is not None:
                raise BundleError("bundle.revision_of_folder", revision=revision, source=os.fspath(source))
            # It ships with the package.
            trusted = trusted or Path(source).resolve() == STARTER_FOLDER.resolve()
            return cls(source, config_sha256=None if trusted else _verified(source))
        if not isinstance(source, str) or not _HUB_ID.fullmatch(source):
            raise BundleError("bundle.source_unknown", source=os.fspath(source))
        folder, sha = download.download_folder(
            source,
            revision=revision,
            files=SERVING_FILES,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        # A commit's digits name its content; what a branch or a tag stands for, its owner can change.
        trusted = trusted or revision == sha
        return cls(folder, sha, config_sha256=None if trusted else _verified(folder))

    @property
    def categories(self) -> tuple[Category, ...]:
        """Every category the models know, in the order of the probability arrays."""
        return self.config.categories

    @property
    def threshold(self) -> float | None:
        """The least probability that is accepted, 0 to 1; None if every answer is to be reviewed."""
        return self.config.thresholds[DEFAULT_PRECISION]["probability"]

    @overload
    def predict(self, products: Product, *, threshold: float | None = None) -> Prediction: ...

    @overload
    def predict(self, products: Sequence[Product], *, threshold: float | None = None) -> list[Prediction]: ...

    def predict(
        self, products: Product | Sequence[Product], *, threshold: float | None = None
    ) -> Prediction | list[Prediction]:
        """Classify products with a text, a picture, or both.

        A product with both is answered by the fusion model, one with a single input by that input's model.

        Args:
            products: One product, or a sequence in any mix.
            threshold: The least probability to accept, 0 to 1; None takes the bundle's.

        Returns:
            One prediction for one product; for a sequence a list in the same order, in which a product whose
            picture cannot be read is answered from its text, with the reason in `.error`, and one that cannot be
            scored at all has only `.error`.

        Raises:
            ProductError: For one product (not in a sequence): its picture cannot be read, or it is empty.
        """
        if isinstance(products, Product):
            prediction = self._predictions(self._models.run([products]), threshold)[0]
            if prediction.error is not None:
                raise ProductError(prediction.error)
            return prediction
        return [
            prediction
            for start in range(0, len(products), CHUNK)
            for prediction in self._predictions(self._models.run(products[start : start + CHUNK]), threshold)
        ]

    def analyze(self, product: Product, *, threshold: float | None = None) -> Analysis:
        """Predict one product so that its categories can be explained without running all models again.

        A product that cannot be scored raises nothing: the prediction has `.error`. For the arguments see `predict`.
        """
        outputs = self._models.run([product], for_explanation=True)
        prediction = self._predictions(outputs, threshold)[0]
        return Analysis(product, prediction, outputs, self._models.text)

    def explain(
        self, product: Product, prdtypecode: int | None = None, *, threshold: float | None = None
    ) -> Explanation:
        """Which words and which regions of the picture spoke for a category and which against it.

        Costs one more run of the text model than `predict`; `analyze` serves several categories of one product.

        Args:
            product: One product with a text, a picture, or both.
            prdtypecode: The category to explain; None for the predicted one.
            threshold: As in `predict`.

        Raises:
            ProductError: Its picture cannot be read, or it is empty.
            ExplanationError: There is no category with this code.
        """
        if prdtypecode is not None:
            find_category(self.categories, prdtypecode)
        analysis = self.analyze(product, threshold=threshold)
        if analysis.prediction.error is not None:
            raise ProductError(analysis.prediction.error)
        return analysis.explain(prdtypecode)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Copy the bundle to a folder, which is whole at every moment, and return the folder.

        From a serving part (a hub download, the starter bundle) only that is written, and a warning says so.

        Raises:
            BundleError: The folder holds something else than a bundle.
        """
        self._warn_of_serving_part()
        with replace_folder(folder) as staging:
            for name in bundle_files(self.folder):
                shutil.copyfile(self.folder / name, staging / name)
            validate_bundle(staging)
        return Path(folder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        token: str | None = None,
        branch: str | None = None,
        tag: str | None = None,
        commit_message: str = "Upload a product classification bundle",
    ) -> str:
        """Publish the bundle's files in one commit; see `save_pretrained` for which files.

        Args:
            repo_id: "user/name"; made if it does not exist.
            private: Only for a repository that is made now.
            token: None takes the one stored by `hf auth login`.
            branch: None for the main branch; made if it does not exist.
            tag: A name for the new commit.
            commit_message: The commit's title.

        Returns:
            The revision: the new commit's 40 hex digits.

        Raises:
            BundleError: The card or the figures are missing, without which nobody can load it from a hub.
            HubError: The repository cannot be written; nothing was changed.
        """
        check_publishable(self.folder)
        self._warn_of_serving_part()
        return upload.upload_folder(
            self.folder,
            repo_id,
            files=bundle_files(self.folder),
            commit_message=commit_message,
            private=private,
            branch=branch,
            tag=tag,
            token=token,
            # Files of an earlier, fuller bundle would not belong to these.
            delete_others=ALL_FILES,
        )

    def reproduce_self_check(self) -> float:
        """Classify the products in config.json again and compare with the probabilities noted there.

        Returns:
            The largest difference of any probability, 0 to 1.

        Raises:
            BundleError: A difference over 1e-3: the files are not those that were trained together.
        """
        products = [self_check_product(entry) for entry in self.config.self_check.get("products", ())]
        expected = np.asarray(self.config.self_check.get("probabilities", ()), np.float32)
        found = [prediction.probabilities for prediction in self.predict(products)]
        answered = [probabilities for probabilities in found if probabilities is not None]
        shape = (len(products), len(self.categories))
        if not products or len(answered) < len(found) or expected.shape != shape:
            raise BundleError("bundle.self_check_missing", folder=self.folder)
        difference = float(np.abs(np.stack(answered) - expected).max())
        if not difference <= SELF_CHECK_TOLERANCE:
            raise BundleError("bundle.self_check_differs", folder=str(self.folder), difference=difference)
        return difference

    def _warn_of_serving_part(self) -> None:
        if not all((self.folder / name).is_file() for name in KERAS_FILES):
            _logger.warning("Only the serving part is written: %s holds no .keras files.", self.folder)

    def _predictions(self, outputs: ModelOutputs, threshold: float | None) -> list[Prediction]:
        return self._models.predictions(outputs, self.threshold if threshold is None else threshold)


def _verified(folder: str | os.PathLike[str]) -> str:
    """The sha256 of the config.json of a bundle that a sandbox has loaded."""
    # Imported here: a trusted bundle needs none of it.
    from rakuten_models.bundle import sandbox

    return sandbox.load_in_sandbox(folder)


def self_check_product(entry: dict[str, Any]) -> Product:
    """A product from its form in config.json, where the picture is base64 of a file or None."""
    image = entry["image"]
    return Product(entry["designation"], entry["description"], base64.b64decode(image) if image else None)


def load_classifier(source: str | None = None, revision: str | None = None) -> tuple[ProductClassifier, str]:
    """Load the bundle that the caller or the environment names.

    The first of these that is given: `source`; the hub repository in RAKUTEN_MODEL_REPO (at
    RAKUTEN_MODEL_REVISION); the folder in RAKUTEN_BUNDLE; the starter bundle. RAKUTEN_TRUSTED=1 skips the sandbox.

    Args:
        source: A bundle's folder or a hub id "user/name".
        revision: For a hub id: a branch, a tag, or a commit's 40 hex digits.

    Returns:
        The classifier, and a name for it to show: the hub id, the folder's name or "starter bundle".

    Raises:
        BundleError: The bundle is missing, incomplete or altered.
        HubError: The repository or revision cannot be had.
    """
    repository = os.environ.get(REPOSITORY_VARIABLE, "")
    folder = os.environ.get(FOLDER_VARIABLE, "")
    if not source and repository:
        source = repository
        revision = revision or os.environ.get(REVISION_VARIABLE) or None
    elif not source and folder:
        # "bundles/mine" looks like a hub id; a folder that is not there must not become a download.
        if not os.path.isdir(folder):
            raise BundleError("bundle.folder_variable_wrong", folder=folder)
        source = folder
    trusted = os.environ.get(TRUSTED_VARIABLE, "") == "1"
    classifier = ProductClassifier.from_pretrained(source or None, revision=revision, trusted=trusted)
    if classifier.revision is not None and source:
        return classifier, source
    if classifier.folder.resolve() == STARTER_FOLDER.resolve():
        return classifier, "starter bundle"
    return classifier, classifier.folder.resolve().name
