"""The command `python -m rakuten_models.batch`: its options, its progress bar and its last words."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from tqdm import tqdm

from rakuten_models.batch.drift import read_reference, report_files, report_text, write_report
from rakuten_models.batch.evaluation import LABEL_COLUMN, BatchMetrics, evaluate_scored
from rakuten_models.batch.pipeline import score_catalog
from rakuten_models.batch.progress import BatchProgress, BatchSummary
from rakuten_models.batch.settings import ENGINES, BatchSettings
from rakuten_models.catalog.columns import add_column_options, chosen_columns, recognise_columns
from rakuten_models.catalog.image_store import PICTURE_SECONDS
from rakuten_models.catalog.source import read_header
from rakuten_models.classifier import ProductClassifier, load_classifier
from rakuten_models.cli import EXIT_INTERRUPTED, run_command
from rakuten_models.errors import BatchError

_MAX_CATEGORIES = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Score a catalog and say what came out.

    Raises:
        RakutenModelsError: The catalog, the bundle, the pictures or the output cannot be used.
    """
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    columns = recognise_columns(read_header(options.source).names, chosen_columns(options))
    classifier, name = load_classifier(options.bundle, options.revision)
    reference = read_reference(classifier) if options.report else None
    bar: tqdm | None = None

    def show(progress: BatchProgress) -> None:
        nonlocal bar
        if bar is None:
            # Rows of an earlier run, the initial ones, say nothing about how fast this one is.
            bar = tqdm(total=progress.total, initial=progress.done, unit=" rows", mininterval=0.5, dynamic_ncols=True)
        bar.update(progress.done - bar.n)

    try:
        summary = score_catalog(
            options.source,
            options.output,
            classifier=classifier,
            images=options.images,
            settings=BatchSettings(
                columns=columns,
                top=options.top,
                spreadsheet_safe=options.spreadsheet_safe,
                overwrite=options.overwrite,
                picture_seconds=options.picture_timeout,
                engine=options.engine,
                address=options.address,
                workers=options.workers,
            ),
            progress=None if options.quiet else show,
        )
    except KeyboardInterrupt:
        summary = None
    finally:
        if bar is not None:
            bar.close()
    if summary is None:
        print("stopped: the same command goes on where it was.", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(summary_text(summary, classifier))
    if columns.label is not None:
        try:
            print(metrics_text(evaluate_scored(summary.output, columns.label), columns.label))
        except BatchError as error:
            if options.label_column is not None:
                raise
            # Nobody asked for a comparison: a column of that name without labels is no fault.
            print(f"Not compared: {error}")
    if options.images is not None and summary.scored and not summary.with_picture:
        print(
            f"warning: no row's picture was found in {options.images}; expected what the image column names, or "
            "image_<imageid>_product_<productid>.jpg directly in it: check --images.",
            file=sys.stderr,
        )
    if reference is not None:
        found = write_report(options.output, options.report, classifier, reference)
        print(report_text(found, {each.prdtypecode: each.name("en") for each in classifier.categories}))
        print(f"written: {' and '.join(str(file) for file in report_files(options.report))}")
    revision = f" at {classifier.revision}" if classifier.revision else ""
    print(f"Bundle: {name}{revision}")
    return 0


def summary_text(summary: BatchSummary, classifier: ProductClassifier) -> str:
    """A run in a few lines for a terminal."""
    lines = []
    if summary.already_finished:
        lines.append(f"{summary.output} is finished already, and nothing was done; --overwrite scores it again.")
    else:
        lines.append(f"{summary.output}: {summary.seconds:,.1f} s, {summary.rows_per_second:,.0f} rows a second")
    accepted = summary.scored - summary.to_review
    lines.append(
        f"{summary.rows:,} rows: {summary.scored:,} scored ({accepted:,} accepted, {summary.to_review:,} to review, "
        f"{summary.with_picture:,} with a picture), {summary.rows - summary.scored:,} not scored"
    )
    for title, reasons in (("not scored", summary.failed), ("picture left out", summary.left_out_pictures)):
        lines += [
            f"  {title}, {count:,}: {reason}" for reason, count in sorted(reasons.items(), key=lambda each: -each[1])
        ]
    names = {category.prdtypecode: category.name("en") for category in classifier.categories}
    ranked = sorted(summary.per_category.items(), key=lambda each: (-each[1], each[0]))
    lines += [f"  {count:>9,}  {code:>5}  {names.get(code, '')}" for code, count in ranked[:_MAX_CATEGORIES]]
    if len(ranked) > _MAX_CATEGORIES:
        rest = sum(count for _, count in ranked[_MAX_CATEGORIES:])
        lines.append(f"  {rest:>9,}  in {len(ranked) - _MAX_CATEGORIES} other categories")
    return "\n".join(lines)


def metrics_text(metrics: BatchMetrics, label_column: str = LABEL_COLUMN) -> str:
    """Agreement with the labels in a few lines for a terminal."""
    lines = [
        f"Against the {metrics.rows:,} labels in {label_column}: accuracy {metrics.accuracy:.4f}, weighted F1 "
        f"{metrics.weighted_f1:.4f}"
    ]
    if metrics.unknown:
        named = ", ".join(f"{code} ({count:,})" for code, count in list(metrics.unknown.items())[:10])
        more = ", ..." if len(metrics.unknown) > 10 else ""
        lines.append(f"  {sum(metrics.unknown.values()):,} labels that the bundle does not know: {named}{more}")
    if metrics.unreadable:
        named = ", ".join(repr(text) for text in list(metrics.unreadable)[:5])
        lines.append(f"  {sum(metrics.unreadable.values()):,} labels are no whole number: {named}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rakuten_models.batch",
        description="Score a whole catalog: the same rows come out, with predictions beside them. A run that was "
        "stopped goes on where it was.",
    )
    parser.add_argument(
        "source",
        metavar="INPUT",
        help="a .csv, .jsonl or .parquet file, a folder of them, or a glob in quotes; or a URL (s3, gs, hf, https)",
    )
    parser.add_argument("output", metavar="OUTPUT", help="a name that ends in .csv, or a folder for Parquet parts")
    parser.add_argument("--images", metavar="DIR|ZIP|URL", help="the pictures; without it only texts are looked at")
    parser.add_argument(
        "--picture-timeout",
        type=float,
        default=PICTURE_SECONDS,
        metavar="SECONDS",
        help="that one picture under a URL may take (default: %(default)g)",
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default="local", help="this process, or Ray (pip install .[scale])"
    )
    parser.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster; default: one of this machine's own")
    parser.add_argument("--workers", type=int, metavar="N", help="of Ray; default: by the size of the cluster")
    parser.add_argument(
        "--bundle", metavar="FOLDER|user/name", help="the models; default: as for rakuten_models.classify"
    )
    parser.add_argument("--revision", help="of the hub repository: a branch, a tag, or a commit")
    parser.add_argument(
        "--top", type=int, default=3, metavar="N", help="the most probable categories to write (default: 3)"
    )
    add_column_options(parser)
    parser.add_argument(
        "--report",
        metavar="FOLDER|FILE.json",
        help="write there, as JSON and Markdown, how the answers differ from those the bundle was measured on",
    )
    parser.add_argument(
        "--spreadsheet-safe",
        action="store_true",
        help="in a CSV, put an apostrophe before texts that a spreadsheet would run as formulas",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a finished output or one of another run")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def command() -> int:
    """The command, ending with a sentence and an exit status."""
    return run_command(main)


if __name__ == "__main__":
    sys.exit(command())
