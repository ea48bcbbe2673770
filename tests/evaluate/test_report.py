"""The report: one file, nothing from outside, the right figures, the same bytes, text escaped."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from small_world import World
from typer.testing import CliRunner

from stages.core import storage, tables
from stages.core.log import UserError
from stages.evaluate import audit, evaluate, report
from stages.evaluate.page import charts, content, examples
from stages.retrieve.blending.fusion import Fusion

HOSTILE = "<script>alert('x')</script> & <b>bold</b>"


class Page(HTMLParser):
    """Tags that do not close, ids, links and everything that a browser would fetch."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in {"src", "href", "xlink:href", "data", "srcset"} and value:
                (self.links if value.startswith("#") else self.fetched).append(value)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    return page


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = world.write(tmp_path_factory.mktemp("report"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        evaluate.main()
        audit.main()
        hostile = world.queries.with_columns(text=pl.lit(HOSTILE))
        tables.write(hostile, Path("data/queries.parquet"), tables.QUERIES)
        counts = {"events": 800, "reviews": {"read": 815, "duplicates": 15}, "source": "sample"}
        storage.write_json(Path("metrics/ingest.json"), counts)
        storage.write_json(Path("metrics/keywords.json"), {"asked": 640, "reasons": {"refused": 3}})
        gate = {"kept": "tuned", "metric": "ndcg@10", "pairs": world.pairs.height}
        gate |= {"difference": {"mean": 0.1, "low": 0.05, "high": 0.15}, "window": "fit"}
        storage.write_json(Path("metrics/finetune.json"), gate)
        storage.write_text(Path("plots/finetune.csv"), "step,loss,recall\n1,2.5,\n2,2.0,0.4\n")
        curve = "epoch,step,loss,mrr\n1,4,2.5,\n2,8,2.0,0.4\n"
        storage.write_text(Path("plots/two_tower.csv"), curve)
        gains = "feature,gain\nbm25_score,0.75\nitem_price,0.25\n"
        storage.write_text(Path("models/rankers/lightgbm/importance.csv"), gains)
        report.main()
    return made


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return read(folder / "report" / "index.html")


def test_it_is_one_whole_file_that_fetches_nothing(folder: Path, page: Page) -> None:
    assert page.open == []
    assert page.fetched == ["data:,"]
    source = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\((?!#)", source)
    assert [path.name for path in (folder / "report").iterdir()] == ["index.html"]


def test_ids_are_unique_and_links_lead_somewhere(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert set(page.links) <= {f"#{name}" for name in page.ids}


def test_it_says_first_how_good_and_how_sure(folder: Path) -> None:
    source = (folder / "report" / "index.html").read_text(encoding="utf-8")
    head = source[source.index("<header>") : source.index("</header>")]
    ranking = storage.read_json(folder / "metrics" / "ranking.json")
    best = content.best_ranker(ranking)
    figure = ranking[best]["test"]["ndcg@5"]
    assert f"{figure['mean']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})" in head
    assert "80 queries" in head
    assert "audit: 21 of 21 checks pass" in head


def test_what_users_wrote_is_text_and_never_markup(folder: Path, page: Page) -> None:
    source = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "<script" not in source
    assert HOSTILE in page.text


def test_it_holds_every_part(folder: Path, page: Page) -> None:
    said = " ".join(page.text)
    assert "The blend joins by standardised scores; its weights were tuned on valid: " in said
    assert "Weights of the blend, early stopping and the choice" in said
    trained = ("Fine-tuning the encoder", "Training the two towers")
    for words in ("Limits", "Feature importance, lightgbm", *trained):
        assert words in said
    assert "On valid the tuned encoder is better by 0.100 (0.050 to 0.150)" in said
    assert "ingest · reviews · duplicates" in said
    assert "keywords · reasons · refused" in said
    source = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert source.count("<svg") == 12
    assert source.count("<blockquote>") == 6


def test_the_same_run_gives_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / "report" / "index.html").read_bytes()
    monkeypatch.chdir(folder)
    report.main(report_folder=tmp_path)
    assert (tmp_path / "index.html").read_bytes() == before


def test_parts_that_a_run_lacks_are_left_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    alone = tmp_path / "metrics"
    for name in report.REQUIRED:
        storage.write_json(
            alone / f"{name}.json", storage.read_json(folder / "metrics" / f"{name}.json")
        )
    report.main(
        metrics_folder=alone,
        plots_folder=tmp_path,
        rankers_folder=tmp_path,
        report_folder=tmp_path / "report",
    )
    made = read(tmp_path / "report" / "index.html")
    assert made.open == []
    assert "learned" not in made.ids
    assert set(made.links) <= {f"#{name}" for name in made.ids}


def test_missing_metrics_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"retrieval.json: no such file; run `dvc repro`"):
        report.read_metrics(tmp_path)


def test_a_failed_check_is_shown_as_such(folder: Path, tmp_path: Path) -> None:
    check: dict[str, Any] = {"passed": False, "message": "It leaks.", "warning": False}
    found = report.read_metrics(folder / "metrics")
    page = report.render(
        {
            "sentence": "",
            "tiles": [],
            "tables": {"retrieval": [], "ranking": []},
            "figures": content.figures(
                *(found[n] for n in ("retrieval", "ranking", "comparisons")),
                found["slices"],
                found["attribution"],
            ),
            "blend": "",
            "tuned": False,
            "shortcomings": ["als is not surely better than popular."],
            "honest": content.honest({"bm25": {}}),
            "learned": {},
            "gate": "",
            "examples": [],
            "best": "blend",
            "queries": 1,
            "split": content.split_in_words({"method": "leave_last_out", "timed": False}),
            "worded": True,
            "level": "95%",
            "tail": "80%",
            "resamples": 1,
            "checks": [check | {"name": "time_travel"}],
            "passed": 0,
            "counts": [],
        }
    )
    assert '<span class="badge failed">fails</span>' in page
    assert "audit: 0 of 1 checks pass" in page
    assert "als is not surely better than popular." in page
    assert "<li>Early stopping and the choice" in page
    assert "<b>This is no split by time: the data has no times" in page


def test_a_split_by_time_needs_no_word(folder: Path) -> None:
    assert "no split by time" not in (folder / "report" / "index.html").read_text()
    timed = content.split_in_words({"method": "leave_last_out", "timed": True})
    assert timed is not None
    assert "what others did after the question" in timed
    assert content.split_in_words({"method": "cutoffs", "timed": True}) is None


def test_shops_that_are_cut_apart_are_told_of() -> None:
    ends = {"a": {"train_end_ms": 1_440_000_000_000}, "b": {"train_end_ms": 1_590_000_000_000}}
    cuts = {"method": "fractions", "timed": True, "parts": ends}
    told = content.split_in_words(cuts)
    assert told is not None
    assert "end of train: a at 2015-08-19, b at 2020-05-20" in told
    assert content.asked(cuts) == "queries later than everything it learned from of their shop"


# Parts -------------------------------------------------------------------------------------------


def example_lists(*items: str) -> pl.DataFrame:
    rows = [("q", item, float(-place)) for place, item in enumerate(items)]
    return pl.DataFrame(rows, ["query_id", "item_id", "score"], orient="row")


def test_an_example_shows_tops_targets_and_moves(world: World) -> None:
    one = world.queries.head(1).with_columns(
        query_id=pl.lit("q"), targets=pl.lit(pl.Series([["z"]])), text=pl.lit("a " * 500)
    )
    many = [f"i{n:02d}" for n in range(12)]
    made = examples.examples_of(one, example_lists(*many, "z"), example_lists("z", *many), {})
    (example,) = made
    assert [row.position for row in example.before] == [*range(1, 9), 13]
    assert example.before[-1].is_target
    assert (example.after[0].item_id, example.after[0].was) == ("z", 13)
    assert example.outcome == "from place 13 to 1"
    assert len(example.text) <= 420
    assert example.text.endswith("…")
    lost = examples.examples_of(one, example_lists("a"), example_lists("a"), {"z": "Zither"})
    assert lost[0].outcome == "not among the candidates"
    assert lost[0].targets == ["Zither"]


def test_examples_are_drawn_the_same_from_any_order(world: World) -> None:
    drawn = examples.draw(world.queries, 5, 1)
    assert drawn.equals(examples.draw(world.queries.reverse(), 5, 1))
    assert not drawn.equals(examples.draw(world.queries, 5, 2))
    assert examples.draw(world.queries.head(2), 5, 1).height == 2


def test_an_item_without_title_is_called_by_id_and_words() -> None:
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["Anvil", None, None]})
    documents = pl.DataFrame({"item_id": ["b"], "text": ["[Review Keywords] loud [Features] big"]})
    called = examples.names_of(items, documents, pl.Series(["a", "b", "c", "d"]))
    assert called == {"a": "Anvil", "b": "b loud big", "c": "c", "d": "d"}


def test_a_curve_has_a_second_axis_where_something_was_measured() -> None:
    rows = {"step": [4, 8], "loss": [2.5, 2.0]}
    alone = charts.towers_curve(pl.DataFrame(rows | {"mrr": [None, None]}))
    both = charts.towers_curve(pl.DataFrame(rows | {"mrr": [0.1, 0.2]}))
    assert "MRR of held-out users" in both
    assert "MRR" not in alone
    assert ">loss<" in alone


def test_without_rows_no_curve_is_drawn(tmp_path: Path) -> None:
    storage.write_text(tmp_path / "two_tower.csv", "epoch,step,loss,mrr\n")
    storage.write_text(tmp_path / "finetune.csv", "step,loss,recall\n1,2.5,\n")
    points, towers = (report.read_curve(tmp_path / f"{n}.csv") for n in ("finetune", "two_tower"))
    assert list(content.learned({}, points, towers)) == ["finetune"]
    assert content.learned({}, towers, report.read_curve(tmp_path / "none.csv")) == {}


def test_charts_of_the_same_figures_are_the_same_bytes() -> None:
    rows = {"a − b": {"mean": 0.1, "low": -0.1, "high": 0.3}}
    first = charts.forest(rows, "x", "difference & more")
    assert first == charts.forest(rows, "x", "difference & more")
    assert "difference &amp; more" in first
    assert 'id="figure' not in first
    assert "<metadata" not in first


def test_metrics_are_called_as_they_are_written() -> None:
    names = ["ndcg@5", "recall@10", "average_precision", "gauc", "mrr"]
    written = [charts.called(name) for name in names]
    assert written == ["NDCG@5", "Recall@10", "Average precision", "GAUC", "MRR"]


def test_weights_of_the_blend_are_said_to_be_set(tmp_path: Path) -> None:
    fusion = Fusion("interleave", {"two_tower": 0.75, "popular": 0.25}, origin="set")
    fusion.save(tmp_path / "blend.json")
    assert content.blend_in_words(storage.read_json(tmp_path / "blend.json")) == (
        "The blend joins by taking from the lists in turn; its weights were set by hand: "
        "popular 0.25, two_tower 0.75."
    )
    tail = {"two_tower": 1.0, "popular": 0.0}
    replace(fusion, origin="tuned", head=20, tail=tail).save(tmp_path / "blend.json")
    said = content.blend_in_words(storage.read_json(tmp_path / "blend.json"))
    assert said.endswith(
        "From rank 21 on they are those that found most on valid: popular 0, two_tower 1."
    )


@pytest.mark.parametrize("stage", [evaluate, audit, report])
def test_a_stage_says_what_it_does(stage: Any) -> None:
    import typer

    app = typer.Typer()
    app.command()(stage.main)
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "--params" in result.output


def test_what_is_not_surely_better_than_popular_is_said() -> None:
    def change(low: float, high: float) -> dict[str, dict[str, float]]:
        return {"recall@10": {"mean": (low + high) / 2, "low": low, "high": high}}

    warm = {"als_vs_popular": change(-0.01, 0.03), "item_knn_vs_popular": change(0.01, 0.03)}
    cold = {"als_vs_popular": change(-0.1, 0.0), "content_vs_popular": change(0.0, 0.02)}
    slices = {
        "warm_users": {"queries": 30, "over_popular": warm},
        "cold_items": {"queries": 30, "over_popular": cold},
    }
    blend = {"blend_vs_popular": change(0.1, 0.2), "blend_vs_als": change(-0.03, -0.01)}
    said = content.shortcomings(slices, {"retrieval": blend})
    assert said == [
        "als is not surely better than popular for users that are known: Recall@10 +0.010 "
        "(−0.010 to +0.030).",
        "content is not surely better than popular for items that are new: Recall@10 +0.010 "
        "(+0.000 to +0.020).",
        "The blend is surely worse than als: Recall@10 −0.020 (−0.030 to −0.010).",
    ]
    few = {name: slice_ | {"queries": 29} for name, slice_ in slices.items()}
    assert content.shortcomings(few, {"retrieval": {}}) == []
    deep = {"blend_vs_als": {"recall@100": {"mean": -0.015, "low": -0.03, "high": -0.001}}}
    assert content.shortcomings(few, {"retrieval": deep}) == [
        "The blend is surely worse than als: Recall@100 −0.015 (−0.030 to −0.001)."
    ]
    deep["blend_vs_als"]["recall@100"]["high"] = 0.0
    assert content.shortcomings(few, {"retrieval": deep}) == []
    words_only: dict[str, dict[str, object]] = {
        "warm_users": {"queries": 500},
        "cold_items": {"queries": 500},
    }
    assert content.shortcomings(words_only, {"retrieval": {"blend_vs_bm25": change(0, 1)}}) == []
