"""Report: the metrics, example lists and audit in, one self-contained HTML page out."""

from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import UserError, get_logger, run
from stages.core.params import load_params
from stages.core.storage import read_json, write_text

log = get_logger(__name__)

TEMPLATE = Path(__file__).parent / "page" / "report.html.j2"
REQUIRED = ("retrieval", "ranking", "details", "audit")
COUNTED = ("ingest", "keywords", "summaries", "pairs")
OPTIONAL = (*COUNTED, "finetune")


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read the metrics files, and what is in `details` by its own names.

    A file that a run need not have is empty when absent.

    Raises:
        UserError: a file that every run has is missing.
    """
    found: dict[str, Any] = {}
    for name in (*REQUIRED, *OPTIONAL):
        path = folder / f"{name}.json"
        if path.exists():
            found[name] = read_json(path)
        elif name in OPTIONAL:
            found[name] = {}
        else:
            raise UserError(f"{path}: no such file; run `dvc repro` to make it")
    return found | found["details"]


def read_importances(folder: Path, rankers: list[str]) -> dict[str, pl.DataFrame]:
    """Read the importance (feature, gain) of each ranker that has written one."""
    paths = {name: folder / name / "importance.csv" for name in rankers}
    return {name: pl.read_csv(path) for name, path in paths.items() if path.exists()}


def read_curve(path: Path) -> pl.DataFrame:
    """Read what training wrote on its way, a row a measurement; no rows where it wrote none."""
    return pl.read_csv(path) if path.exists() else pl.DataFrame()


def render(content: dict[str, Any]) -> str:
    """Fill the template; all text is escaped, and a name that it misses is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATE.parent)
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE.name).render(content)


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    items_file: Path = files.ITEMS,
    cuts_file: Path = files.CUTS,
    queries_file: Path = files.QUERIES,
    documents_file: Path = files.DOCUMENTS,
    blend_file: Path = files.BLEND,
    blend_model: Path = files.BLEND_MODEL,
    scores_folder: Path = files.SCORES,
    rankers_folder: Path = files.RANKERS,
    metrics_folder: Path = files.METRICS,
    plots_folder: Path = files.PLOTS,
    report_folder: Path = files.REPORT,
) -> None:
    """Draw the charts, draw the examples and write `index.html`."""
    from stages.evaluate.page import content, examples

    params = load_params(params_file)
    found = read_metrics(metrics_folder)
    retrieval, ranking = found["retrieval"], found["ranking"]
    comparisons, lost = found["comparisons"], found["attribution"]
    best = content.best_ranker(ranking)
    cuts = read_json(cuts_file)
    split = content.split_in_words(cuts)
    fusion = read_json(blend_model)

    test = tables.read(queries_file, tables.QUERIES).filter(split="test")
    drawn = examples.draw(test, params.report.examples, params.seed)
    columns = ["query_id", "item_id", "score"]
    before = tables.read(blend_file, tables.CANDIDATES, columns)
    before = before.join(drawn.select("query_id"), on="query_id", how="semi")
    after = before
    if best != "blend":
        after = tables.read(scores_folder / f"{best}.parquet", tables.SCORES, columns)
    named = pl.concat([before["item_id"], drawn["targets"].explode()])
    titles = examples.names_of(
        tables.read(items_file, tables.ITEMS, ["item_id", "title"]),
        tables.read(documents_file, tables.DOCUMENTS).filter(window="train"),
        named,
    )
    checks = found["audit"]["checks"]
    page = render(
        {
            "sentence": content.sentence(ranking, comparisons, lost, content.asked(cuts)),
            "tiles": content.tiles(retrieval, ranking, comparisons),
            "tables": content.tables(retrieval, ranking),
            "figures": content.figures(retrieval, ranking, comparisons, found["slices"], lost),
            "shortcomings": content.shortcomings(found["slices"]["test"], comparisons["test"]),
            "blend": content.blend_in_words(fusion),
            "tuned": fusion["origin"] == "tuned",
            "honest": content.honest(found["rank_slice"]),
            "learned": content.learned(
                read_importances(rankers_folder, list(params.rankers)),
                read_curve(plots_folder / "finetune.csv"),
                read_curve(plots_folder / "two_tower.csv"),
            ),
            "gate": content.gate(found["finetune"]),
            "examples": examples.examples_of(drawn, before, after, titles),
            "best": best,
            "queries": test.height,
            "split": split,
            "worded": test["text"].count() > 0,
            "level": f"{params.evaluate.level:.0%}",
            "tail": f"{params.evaluate.tail:.0%}",
            "resamples": params.evaluate.bootstrap,
            "checks": checks,
            "passed": sum(check["passed"] for check in checks),
            "counts": content.counts({name: found[name] for name in COUNTED}),
        }
    )
    write_text(report_folder / "index.html", page)
    log.info("%d examples, %d characters of HTML", drawn.height, len(page))


if __name__ == "__main__":
    run(main)
