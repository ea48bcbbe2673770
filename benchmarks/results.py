"""Print the figures of the last run as Markdown: `python -m benchmarks.results`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from stages.core import files
from stages.core.storage import read_json

RETRIEVAL = ("recall@1", "recall@10", "recall@50", "recall@100", "mrr")
RANKING = ("ndcg@3", "ndcg@5", "ndcg@10", "mrr")
COMPARED = ("recall@10", "mrr", "ndcg@5")


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


def differences(comparisons: dict[str, Any]) -> list[str]:
    """One row a paired comparison on test."""
    lines = ["| test, paired | metric | difference |", "|---|---|---|"]
    for kind in ("retrieval", "ranking"):
        for pair, metrics in comparisons["test"][kind].items():
            lines += [
                f"| {pair} | {metric} | {_cell(metrics[metric])} |"
                for metric in COMPARED
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
    lines += ["", *differences(read_json(metrics_folder / "details.json")["comparisons"])]
    typer.echo("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
