"""Print the figures of the last run as Markdown: `python -m benchmarks.results`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from stages.core import files
from stages.core.storage import read_json

RETRIEVAL = ("recall@1", "recall@10", "recall@50", "recall@100", "mrr")
RANKING = ("ndcg@3", "ndcg@5", "ndcg@10", "mrr")
COMPARED = {
    "retrieval": ("recall@10", "recall@100", "mrr"),
    "ranking": ("mrr", "ndcg@5"),
    "over_best_retriever": ("ndcg@10",),
}


def table(report: dict[str, Any], metrics: tuple[str, ...]) -> list[str]:
    """One row a system and split, a mean with its interval in each cell."""
    lines = [
        "| system | split | " + " | ".join(metrics) + " |",
        "|---|---|" + "---|" * len(metrics),
    ]
    for name, splits in report.items():
        for split in ("valid", "test"):
            cells = [_cell(splits[split].get(metric)) for metric in metrics]
            lines.append(f"| {name} | {split} | " + " | ".join(cells) + " |")
    return lines


def alone(best: dict[str, Any]) -> list[str]:
    """The rows of the best retriever, unranked."""
    rows = {name: {split: best[split][name] for split in best} for name in best["test"]}
    return [line.replace("| ", "| alone: ", 1) for line in table(rows, RANKING)[2:]]


def over_popular(slices: dict[str, Any]) -> list[str]:
    """One row a learned retriever and slice."""
    lines = ["| test, paired with popular | slice | queries | recall@10 | recall@100 |"]
    lines.append("|---|---|---|---|---|")
    for name in ("warm_users", "cold_users", "warm_items", "cold_items"):
        for pair, figures in slices[name].get("over_popular", {}).items():
            cells = " | ".join(_cell(figures.get(m)) for m in ("recall@10", "recall@100"))
            system = pair.removesuffix("_vs_popular")
            lines.append(f"| {system} | {name} | {slices[name]['queries']:,} | {cells} |")
    return lines if len(lines) > 2 else []


def differences(comparisons: dict[str, Any]) -> list[str]:
    """One row a paired comparison on test."""
    lines = ["| test, paired | metric | difference |", "|---|---|---|"]
    for kind, compared in COMPARED.items():
        for pair, metrics in comparisons["test"][kind].items():
            lines += [
                f"| {pair} | {metric} | {_cell(metrics[metric])} |"
                for metric in compared
                if metric in metrics
            ]
    return lines


def _cell(figure: dict[str, float] | None) -> str:
    if figure is None:
        return ""
    return f"{figure['mean']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def main(metrics_folder: Annotated[Path, typer.Option("--metrics")] = files.METRICS) -> None:
    """Print retrieval, ranking and paired comparisons."""
    lines = table(read_json(metrics_folder / "retrieval.json"), RETRIEVAL)
    lines += ["", *table(read_json(metrics_folder / "ranking.json"), RANKING)]
    details = read_json(metrics_folder / "details.json")
    lines += alone(details["best_retriever"])
    lines += ["", *differences(details["comparisons"])]
    lines += ["", *over_popular(details["slices"]["test"])]
    typer.echo("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
