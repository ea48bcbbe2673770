"""What a change costs: 1 % of the reviews, or one item's metadata, in a shop that was run before.

The stages `keywords`, `summaries`, `documents` and `embed` run on a generated shop with an empty
store, again after each change, and at last once more with another empty store, whose tables must be
the same bytes. Reviews change in two ways: some gain a sentence, and later others are written anew,
which also changes the keywords of their items. Documents are those of the recipe `amazon_reviews`:
they quote reviews, of which the encoder reads 128 tokens a passage, as in the sample. Keywords are
read by both offline methods and by a language model, and documents are made of the first. Keywords
of a language model and summaries are asked of a server of this process, which answers at once with
the first words of the text, so that their cost is that of asking and of keeping answers. A model's
own time is not in it; that grows with what is asked anew, so with it shares come near those of the
texts that changed. As a request takes the client some milliseconds, a language model reads the
first reviews alone.

Shares are of processor seconds without start-up: modules and models are loaded by every run, and
what asks a language model by every run that asks one. What that costs is measured right before each
run, as a machine is not always as fast, by the same stages on a shop of the smallest size, run
again with its store each time that one of its items changed, or two of its reviews where a language
model reads those. Of changes the table shows the median of three, other reviews each time, of
start-up the median of all, and of full runs, before the changes and after them, the mean.
"""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, islice
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any, Literal

import polars as pl
import typer
import yaml

from stages.core import files, tables
from stages.core.store import Store

WANTED = 0.03
SENTENCE = " My neighbour borrowed it twice."
TIMES = 3
PREPARED = ("stages.prepare.ingest", "stages.prepare.split", "stages.encode.base")
USED = "keywords by chunks"
ASKED = "keywords by a language model"
OTHERS = {"keywords by YAKE": "yake", ASKED: "openai"}
"""Backends of keywords that no document is made of."""


def made_by(backend: str) -> dict[str, str]:
    """Return the files of the keywords of another backend, by the option that names them."""
    return {
        "--params": f"{backend}.yaml",
        "--keywords": str(files.KEYWORDS.with_name(f"keywords_{backend}.parquet")),
        "--metrics": f"{backend}.json",
    }


STAGES = {
    USED: ("stages.enrich.keywords",),
    **{
        stage: ("stages.enrich.keywords", *chain.from_iterable(made_by(backend).items()))
        for stage, backend in OTHERS.items()
    },
    "summaries": ("stages.enrich.summaries",),
    "documents": ("stages.enrich.documents",),
    "embed": ("stages.encode.embed", "base"),
}
TABLES = (
    files.KEYWORDS,
    *(Path(made_by(backend)["--keywords"]) for backend in OTHERS.values()),
    files.SUMMARIES,
    files.DOCUMENTS,
    files.EMBEDDINGS / "base.parquet",
)
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Cost:
    """Seconds of one run of a stage, on the clock and of the processor."""

    wall: float
    processor: float


@contextmanager
def first_words() -> Iterator[str]:
    """Serve chat completions that quote the text, in the form asked for; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            form = asked["response_format"]["json_schema"]["schema"]["properties"]
            answer = json.dumps(filled(form, asked["messages"][-1]["content"]))
            message = {"role": "assistant", "content": answer}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            said = {"id": "0", "object": "chat.completion", "created": 0, "model": asked["model"]}
            body = json.dumps(said | {"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


def filled(form: dict[str, Any], text: str) -> dict[str, Any]:
    """Return the fields of a form: a text is how `text` begins, a list two of its words."""
    words = iter(text.split())
    return {
        name: [word[:40] for word in islice(words, 2)] if field["type"] == "array" else text[:200]
        for name, field in form.items()
    }


def recipe(reviews: int, items: int, documents: dict[str, Any], url: str) -> dict[str, Any]:
    """Return the parameters of the shop."""
    return {
        "ingest": {
            "sample": {
                "reviews": reviews,
                "items": items,
                "users": max(20, reviews // 10),
                "impressions": 0,
                "pictures": 0,
            }
        },
        "llm": {"model": "first-words", "base_url": url},
        "keywords": {"backend": "chunks"},
        "summaries": {"use_llm": True, "min_chars": 50},
        "documents": documents,
        "encoder": {"kind": "minilm", "max_doc_length": 128},
    }


def run(folder: Path, store: str, *module: str) -> Cost:
    """Run a stage script in `folder`.

    Raises:
        SystemExit: it failed.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "WINNOW_STORE": str(folder / store),
        "OPENAI_API_KEY": "none",
        "OMP_NUM_THREADS": "1",  # threads that wait for each other spend processor seconds too
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *module],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(module)} failed: {done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return Cost(wall, spent)


def run_all(folder: Path, store: str) -> dict[str, Cost]:
    """Run the measured stages in turn, telling of each, for it may take minutes."""
    costs = {}
    for stage, module in STAGES.items():
        costs[stage] = cost = run(folder, store, *module)
        typer.echo(
            f"{folder.name}, {store}: {stage} {cost.wall:.1f} s ({cost.processor:.1f})", err=True
        )
    return costs


class Shop:
    """A shop that is run, and the smallest one, which tells what starting costs at that time.

    Of the smallest one reviews change in a copy, so that the other stages have one item to do.
    """

    def __init__(self, folder: Path, small: Path) -> None:
        self.folder, self._small = folder, small
        self._read = small.with_name("read")
        shutil.copytree(small, self._read)
        self.starts: list[dict[str, Cost]] = []

    def run(self, store: str) -> "Run":
        """Run the shop, and before it a change of the smallest one."""
        rename_item(self._small)
        start = run_all(self._small, "store")
        rewrite(self._read, more_written(), 0.01, len(self.starts) % TIMES)
        start[ASKED] = run(self._read, "store", *STAGES[ASKED])
        self.starts.append(start)
        return Run(run_all(self.folder, store), start)


@dataclass(frozen=True)
class Run:
    """What the stages cost, and what starting them did."""

    costs: dict[str, Cost]
    start: dict[str, Cost]

    def work(self, stages: Iterable[str]) -> float:
        """Return processor seconds of stages without their start-up; a stage has none under zero.

        Where nothing is asked of a language model, what asks is not even loaded.
        """
        return sum(
            max(self.costs[stage].processor - self.start[stage].processor, 0.0) for stage in stages
        )


def prepare(folder: Path, params: dict[str, Any], asked: int) -> None:
    """Generate and split a shop, of which a language model reads so many reviews."""
    folder.mkdir(parents=True)
    (folder / files.PARAMS).write_text(yaml.safe_dump(params), encoding="utf-8")
    for backend in OTHERS.values():
        keywords = {"backend": backend, "max_items": asked if backend == "openai" else None}
        text = yaml.safe_dump(params | {"keywords": keywords})
        (folder / made_by(backend)["--params"]).write_text(text, encoding="utf-8")
    for module in PREPARED:
        run(folder, "unused", module)


def more_written() -> pl.Expr:
    """Return each review's text with a sentence more."""
    return pl.col("text") + SENTENCE


def written_anew() -> pl.Expr:
    """Return for each review the text of another, and a sentence."""
    return pl.col("text").forward_fill().shift(1).fill_null("It came on time.") + SENTENCE


def change_reviews(events: pl.DataFrame, text: pl.Expr, share: float, turn: int) -> pl.DataFrame:
    """Return the events with another text in a share of the reviews, others each turn."""
    written = pl.col("text").is_not_null()
    chosen = written & ((written.cum_sum() + turn) % round(1 / share) == 0)
    return events.with_columns(text=pl.when(chosen).then(text).otherwise("text"))


def rewrite(folder: Path, text: pl.Expr, share: float, turn: int) -> None:
    """Change reviews of a shop; see `change_reviews`."""
    events = tables.read(folder / files.SPLIT_EVENTS, tables.SPLIT_EVENTS)
    changed = change_reviews(events, text, share, turn)
    tables.write(changed, folder / files.SPLIT_EVENTS, tables.SPLIT_EVENTS)


def change_item(items: pl.DataFrame) -> pl.DataFrame:
    """Return the items with another title and description of one."""
    first = pl.col("item_id") == pl.col("item_id").min()
    return items.with_columns(
        pl.when(first).then(pl.lit("Renamed ") + pl.col("title")).otherwise("title").alias("title"),
        pl.when(first)
        .then(pl.lit("Now of better make. ") + pl.col("description").fill_null("It is new. " * 9))
        .otherwise("description")
        .alias("description"),
    )


def rename_item(folder: Path) -> None:
    """Change one item of a shop; see `change_item`."""
    items = tables.read(folder / files.ITEMS, tables.ITEMS)
    tables.write(change_item(items), folder / files.ITEMS, tables.ITEMS)


def digests(folder: Path) -> dict[str, str]:
    """Return the hash of each table that was made."""
    return {path.name: hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in TABLES}


def kept(folder: Path, store: str) -> int:
    """Return how many passages' vectors a store of the shop holds."""
    with Store(folder / store / files.VECTOR_STORE.name) as opened:
        return len(opened)


def cell(
    runs: Sequence[Run], stages: Sequence[str], average: Callable[[list[float]], float]
) -> str:
    """Return the seconds of some stages together, on the clock and of the processor."""
    walls = [sum(run.costs[stage].wall for stage in stages) for run in runs]
    processors = [sum(run.costs[stage].processor for stage in stages) for run in runs]
    return f"{average(walls):.1f} ({average(processors):.1f})"


def report(runs: dict[str, list[Run]], starts: Sequence[dict[str, Cost]]) -> str:
    """Return the Markdown table of the runs, the first of which are the full ones."""
    (_, whole), *changes = runs.items()
    lines = [
        "| stage | start-up | " + " | ".join(runs) + " |",
        "|---|---|" + "---|" * len(runs),
    ]
    rows = {stage: [stage] for stage in STAGES}
    rows[f"together, {USED}"] = [stage for stage in STAGES if stage not in OTHERS]
    for name, stages in rows.items():
        work = mean(run.work(stages) for run in whole)
        cells = [
            cell([Run(start, start) for start in starts], stages, median),
            cell(whole, stages, mean),
        ]
        for _, changed in changes:
            spent = median(run.work(stages) for run in changed)
            share = f"{spent / work:.1%}" if work else "-"
            cells.append(f"{cell(changed, stages, median)}, {share}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(
    reviews: Annotated[int, typer.Option(help="Reviews of the shop.")] = 50_000,
    items: Annotated[int, typer.Option(help="Items of the shop.")] = 1_000,
    quoted: Annotated[int, typer.Option(help="Reviews of an item that are encoded.")] = 30,
    order: Annotated[
        Literal["reviews", "alphabet"], typer.Option(help="Order of a document's keywords.")
    ] = "alphabet",
    window: Annotated[
        Literal["own", "fit"], typer.Option(help="Whose reviews name a document's keywords.")
    ] = "fit",
    keywords: Annotated[
        int, typer.Option(help="Keywords of a document; 40 in recipe amazon_reviews.")
    ] = 40,
    asked: Annotated[int, typer.Option(help="Reviews that a language model reads.")] = 10_000,
    share: Annotated[float, typer.Option(help="Share of the reviews that change.")] = 0.01,
) -> None:
    """Print seconds, processor seconds and shares of the full cost."""
    documents = {
        "reviews": quoted,
        "keyword_order": order,
        "keyword_window": window,
        "max_keywords": keywords,
    }
    with first_words() as url, tempfile.TemporaryDirectory(prefix="winnow-bench-") as folder:
        small, shop = Path(folder) / "small", Path(folder) / "shop"
        prepare(small, recipe(200, 20, documents, url), asked)
        run_all(small, "store")
        prepare(shop, recipe(reviews, items, documents, url), asked)
        measured = Shop(shop, small)
        runs = {"full": [measured.run("store")]}
        passages = {"full": float(kept(shop, "store"))}
        changes: dict[str, Callable[[int], None]] = {
            f"{share:.0%} of reviews": lambda turn: rewrite(shop, more_written(), share, turn),
            "one item": lambda _: rename_item(shop),
            f"{share:.0%} written anew": lambda turn: rewrite(
                shop, written_anew(), share, TIMES + turn
            ),
        }
        for name, change in changes.items():
            runs[name], encoded = [], []
            for turn in range(TIMES):
                before = kept(shop, "store")
                change(turn)
                runs[name].append(measured.run("store"))
                encoded.append(kept(shop, "store") - before)
            passages[name] = median(encoded)
        made = digests(shop)
        runs["full"].append(measured.run("empty"))
        again = digests(shop)
    typer.echo(
        f"{reviews:,} reviews of {items:,} items, {quoted} quoted of each and {keywords} "
        f"keywords at the most; a language model reads {min(asked, reviews):,}; seconds (of the "
        "processor), and the share of the full cost without start-up\n"
    )
    typer.echo(report(runs, measured.starts))
    first, *then = (f"{count:,.0f}" for count in passages.values())
    typer.echo(f"\nPassages encoded: {first} by the full run, then {', '.join(then)}.")
    different = [table for table in made if made[table] != again[table]]
    typer.echo(
        f"\nAt most {WANTED:.0%} are wanted. Tables that differ from those of a full run with an "
        f"empty store: {', '.join(different) or 'none'}."
    )
    if different:
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
