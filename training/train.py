"""Train the text, image and fusion models on a catalog and write them as one bundle.

    python -m training.train --catalog-dir CATALOG --output-dir BUNDLE
    python -m training.train --catalog-dir CATALOG --output-dir BUNDLE --fast
    python -m training.train --catalog-dir CATALOG --output-dir BUNDLE --best

The stages: read and split the catalog; text model; image model (frozen features, then fine-tuning of the upper blocks
unless --fast); fusion, calibration and thresholds on validation rows; the bundle, checked by loading it; its figures on
the test part.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rakuten_models.bundle.config import MODEL_NAMES, BundleConfig
from rakuten_models.bundle.folder import check_target
from rakuten_models.cli import run_command
from rakuten_models.product import Category
from training import evaluate
from training.data.catalog import Catalog, category_list, read_catalog, read_texts
from training.data.files import ReaderSettings, add_reader_options, reader_settings
from training.data.split import split_catalog
from training.errors import BackboneError
from training.evaluation.evaluation_split import rows_of_test_part
from training.image.devices import Devices, read_devices
from training.pipeline.bundle_writer import assemble_bundle
from training.pipeline.run import EVALUATION_FOLDER, TrainingInputs, TrainingRun
from training.pipeline.warm_start import InitialBundle, load_initial_bundle
from training.progress import Progress
from training.settings import KINDS, SplitSettings, TrainingSettings

# Before TensorFlow is imported: its notices about processor features help nobody here.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


# Rates of `_estimate`, measured on two cores.
_SECONDS_A_TEXT, _SECONDS_A_TEXT_AND_EPOCH = 0.0008, 0.00013
_SECONDS_AN_AUGMENTATION, _SECONDS_A_PICTURE_AND_EPOCH = 0.0045, 0.005


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's text.

    Args:
        arguments: Those of the command line if None.

    Raises:
        RakutenModelsError: With the sentence to show.
    """
    options = _parse(arguments)
    settings = TrainingSettings(
        split=SplitSettings(options.split, options.validation_fraction, options.test_fraction, options.seed),
        seed=options.seed,
    )
    if options.other_label_weight is not None:
        settings = dataclasses.replace(settings, other_label_weight=options.other_label_weight)
    if options.fast:
        settings = settings.fast()
    if options.best:
        settings = settings.best()
    data = {
        "name": options.data_name or "/".join(Path(options.catalog_dir).resolve().parts[-2:]),
        "terms": options.data_terms,
        "license": options.data_license,
        "link": options.data_link,
    }
    try:
        train_bundle(
            options.catalog_dir,
            options.output_dir,
            settings,
            backbone_weights=options.backbone_weights,
            unlabelled=options.unlabelled,
            limit=options.limit,
            data={key: value for key, value in data.items() if value},
            log_dir=options.log_dir,
            resume=options.resume,
            init=options.init,
            reading=reader_settings(options),
            devices=Devices(read_devices(options.devices), options.mixed_precision),
        )
    except KeyboardInterrupt:
        print("\nThe finished stages are kept: the same command with --resume goes on from there.", file=sys.stderr)
        raise
    return 0


def train_bundle(
    catalog_dir: str | Path,
    output_dir: str | Path,
    settings: TrainingSettings,
    *,
    backbone_weights: str | None = "imagenet",
    unlabelled: str | Path | None = None,
    limit: int | None = None,
    data: dict[str, str] | None = None,
    log_dir: Path | None = None,
    resume: bool = False,
    show: bool = True,
    init: str | Path | None = None,
    devices: Devices | None = None,
    reading: ReaderSettings | None = None,
) -> Path:
    """Train on a catalog and write the bundle.

    Args:
        catalog_dir: What `read_catalog` takes.
        output_dir: The bundle's folder; one that is there is replaced when the new one is whole.
        settings: The choices.
        backbone_weights: "imagenet", a weights file, or None for random weights (tests).
        unlabelled: Another catalog, with or without labels, whose texts teach the text model.
        limit: Only so many rows.
        data: What the card says of the catalog; see `training.evaluation.model_card`.
        log_dir: For TensorBoard.
        resume: Take over the finished stages of an unfinished run.
        show: Lines and bars on the screen.
        init: A bundle's folder to start from, with its `.keras` files.
        devices: What the image model's fine-tuning runs on; None: one device, full precision.
        reading: The catalogs' columns and pictures, where they are not found by themselves.

    Returns:
        The bundle's folder. It carries figures if the split has a test part.

    Raises:
        RakutenModelsError: With the sentence to show; the output folder is as it was.
    """
    output = Path(output_dir).resolve()
    check_target(output)
    # Not after the hours that the text model may take.
    if not init and backbone_weights not in (None, "imagenet") and not Path(str(backbone_weights)).is_file():
        raise BackboneError("backbone.file_missing", path=backbone_weights)
    start = load_initial_bundle(init, settings) if init else None
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = output.with_name(f".{output.name}.training")
    progress = Progress(log_dir, show)
    with progress.heeding_ctrl_c():
        started = time.perf_counter()
        catalog = read_catalog(catalog_dir, limit=limit, seed=settings.seed, settings=reading)
        progress.say(catalog.summary())
        categories = category_list(catalog)
        if start and init:
            categories = start.categories(categories)
            progress.say(_start_summary(start, catalog, categories, init))
        split = split_catalog(
            catalog, settings.split, folder / "split", lambda done, of: progress.step("near-duplicates", done, of)
        )
        progress.say(split.summary())
        progress.say(
            _estimate(settings, int(catalog.has_text[split.train].sum()), int(catalog.has_image[split.train].sum()))
        )
        more_texts = read_texts(unlabelled, settings=reading) if unlabelled else []
        inputs = TrainingInputs(catalog, split, categories, backbone_weights, more_texts, start)
        config = TrainingRun(inputs, settings, folder, progress, resume=resume, devices=devices).fit()
        facts = {
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "data": data or {},
            "limit": limit,
            "rows": len(catalog),
            **config.training,
        }
        config = assemble_bundle(folder, output, dataclasses.replace(config, training=facts))
        _say_what_came_out(config, output, time.perf_counter() - started, progress)
    if len(split.test):
        quiet = [] if show else ["--quiet"]
        evaluate.main(
            ["--bundle", str(output), "--catalog-dir", str(catalog_dir), "--update-bundle", *quiet],
            rows_of_test_part(catalog, split),
            folder / EVALUATION_FOLDER,
        )
    else:
        progress.say(
            "The split has no test part, so the bundle has no figures yet: python -m training.evaluate --bundle "
            f"{output_dir} --catalog-dir ANOTHER_CATALOG --update-bundle"
        )
    # Only now: a run that is killed while it evaluates resumes from here.
    shutil.rmtree(folder, ignore_errors=True)
    return output


def _start_summary(start: InitialBundle, catalog: Catalog, categories: Sequence[Category], name: str | Path) -> str:
    """What is taken over, and a warning about the figures."""
    known = len(start.config.categories)
    codes = set(catalog.table["prdtypecode"].dropna().astype(int))
    absent = [str(each.prdtypecode) for each in start.config.categories if each.prdtypecode not in codes]
    new = [str(each.prdtypecode) for each in categories[known:]]
    lines = [f"goes on from {name}: {known} categories"]
    lines.append(f"  new, appended: {', '.join(new) or 'none'}")
    if absent:
        lines.append(f"  without a row here, kept as they are: {', '.join(absent)}")
    if start.config.training.get("catalog_fingerprint") != catalog.fingerprint():
        lines.append(
            "  rows that it has learned from may be in validation and test here, and make figures, temperatures and "
            "thresholds look better than they are; judge on a catalog that neither has seen"
        )
    return "\n".join(lines)


def _say_what_came_out(config: BundleConfig, output: Path, seconds: float, progress: Progress) -> None:
    size = sum(facts["size"] for name, facts in config.files.items() if not name.endswith(".keras"))
    validation = config.training["validation_weighted_f1"]
    figures = ", ".join(
        f"{name} {validation[name]:.4f}" for name in (*MODEL_NAMES, "served") if validation[name] is not None
    )
    progress.say(f"weighted F1 on validation: {figures}")
    progress.say(f"bundle: {output} (serving part {size / 1e6:.1f} MB), {seconds / 60:.1f} minutes in all")


def _estimate(settings: TrainingSettings, texts: int, pictures: int) -> str:
    """How long the run will take on two cores."""
    # Each fold's networks see the other folds' rows; two folds are fitted at a time.
    passes = settings.text.epochs * (settings.text.teachers + 1) * (1 + max(settings.text.folds - 1, 0) / 2)
    text = texts * (_SECONDS_A_TEXT + passes * _SECONDS_A_TEXT_AND_EPOCH)
    features = pictures * len(settings.image.augmentations) * _SECONDS_AN_AUGMENTATION
    epochs = settings.image.epochs * settings.image.averaged_runs
    tuning = pictures * epochs * _SECONDS_A_PICTURE_AND_EPOCH
    minutes = [seconds / 60 for seconds in (text, features, tuning)]
    return (
        f"estimate on two cores: text model {minutes[0]:.0f} min, pictures {minutes[1]:.0f} min, fine-tuning "
        f"{minutes[2]:.0f} min; the bars below know better"
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--catalog-dir", required=True, help="the challenge's folder, or a file as rakuten_models.batch reads"
    )
    add_reader_options(parser)
    parser.add_argument("--output-dir", required=True, help="the bundle's folder")
    time_spent = parser.add_mutually_exclusive_group()
    time_spent.add_argument(
        "--fast",
        action="store_true",
        help="no fine-tuning of the image model; no teachers and no cross-fitting for the text model",
    )
    time_spent.add_argument(
        "--best",
        action="store_true",
        help="takes longer: more teachers for the text model, the mean of several fine-tuned image models",
    )
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    parser.add_argument(
        "--init", metavar="BUNDLE",
        help="go on from this bundle's weights; its categories keep their columns, new ones are appended",
    )  # fmt: skip
    parser.add_argument(
        "--devices", default="1", metavar="N|all",
        help="GPUs (without one: processors) that fine-tune the image model together (default 1)",
    )  # fmt: skip
    parser.add_argument("--mixed-precision", action="store_true", help="fine-tune the image model in bfloat16")
    parser.add_argument("--limit", type=int, metavar="N", help="only N rows, for a quick try")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    parser.add_argument("--log-dir", type=Path, help="write TensorBoard curves there: tensorboard --logdir DIR")
    parser.add_argument(
        "--backbone-weights", default="imagenet", metavar="FILE",
        help="MobileNetV2 weights without top, where the official ones cannot be downloaded",
    )  # fmt: skip
    parser.add_argument(
        "--unlabelled", metavar="CATALOG", help="another catalog, labels not needed: its texts teach the text model"
    )
    parser.add_argument("--split", choices=KINDS, default="grouped", help="grouped keeps near-duplicates on one side")
    parser.add_argument("--validation-fraction", type=float, default=0.1, metavar="SHARE")
    parser.add_argument(
        "--test-fraction", type=float, default=0.1, metavar="SHARE", help="0 where another catalog is the test"
    )
    parser.add_argument(
        "--other-label-weight", type=float, metavar="WEIGHT",
        help="how much rows count whose label is not the catalog's own, 0 to 1",
    )  # fmt: skip
    parser.add_argument("--data-name", help="what the model card calls the catalog")
    parser.add_argument("--data-terms", help="a sentence for the card on what the catalog's terms allow")
    parser.add_argument("--data-license", help="the weights' licence by its short name (default research-use)")
    parser.add_argument("--data-link", help="where the catalog and its terms are found")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run_command(main))
