"""Parameters: defaults stand, and what is wrong is refused by name, all of it at once."""

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from stages.core.log import UserError
from stages.core.params import (
    READS_HISTORY,
    Params,
    RankerName,
    RetrieverName,
    Section,
    load_params,
)


def written(values: Any, folder: Path) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def sections(model: type[BaseModel], name: str = "") -> list[tuple[str, type[BaseModel]]]:
    found = [(name, model)]
    for key, value in model.model_fields.items():
        kind = value.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += sections(kind, f"{name}.{key}".lstrip("."))
    return found


def test_an_empty_file_of_parameters_is_the_defaults(tmp_path: Path) -> None:
    assert load_params(written({}, tmp_path)) == Params()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sead": 1}, "sead is no parameter"),
        ({"split": {"trian": 0.8}}, "split.trian is no parameter"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"finetune": {"lr": 1.0}}, r"finetune\.lr: .*less than or equal"),
        ({"retrievers": ["bm52"]}, r"retrievers\.0: .*'bm25'"),
        ({"retrievers": []}, "retrievers: .*at least 1"),
        (
            {"retrievers": ["popular", "bm25"], "split": {"queries": "moments"}},
            "retriever 'bm25' answers words, and with split.queries: moments nobody says any; take",
        ),
        ({"rankers": ["lightgbm", "lightgbm"]}, "rankers names one twice"),
        ({"split": {"train": 0.9, "valid": 0.1}}, r"split: train \+ valid must leave something"),
        ({"llm": {"base_url": "127.0.0.1:8000/v1"}}, r"llm\.base_url: .*valid URL"),
        ({"llm": {"base_url": "http://[::/v1"}}, r"llm\.base_url: .*valid URL"),
        ({"split": {"method": "cutoffs"}}, "needs train_end_ms and valid_end_ms"),
        (
            {"split": {"method": "cutoffs", "train_end_ms": 5, "valid_end_ms": 5}},
            "train_end_ms must be before valid_end_ms",
        ),
        (
            {"ingest": {"source": "interactions", "interactions": {"columns": {"time": None}}}},
            "without times there is no cut in time: split.method must be leave_last_out",
        ),
        (
            {"retrievers": ["multi_vector"], "encoder": {"kind": "bge_m3"}},
            r"'multi_vector' needs vectors of tokens, and encoder\.multi_vector is false",
        ),
        (
            {
                "fit": {
                    "multi_vector": {
                        "weights": dict.fromkeys(("dense", "sparse", "multi_vector"), 0)
                    }
                }
            },
            "must be over 0",
        ),
        (
            {"blend": {"weights": {"bm25": 1, "dense": 1, "als": 1}}},
            "blend.weights must name all of `retrievers` and nothing else; not among them: als, "
            "without a weight: dense_base$",
        ),
        ({"blend": {"weights": {}}}, "blend: one of weights must be over 0; null has them tuned"),
        (
            {"retrievers": ["bm25"], "blend": {"weights": {"bm25": 0}}},
            "blend: one of weights must be over 0",
        ),
        ({"blend": {"weights": {"bm25": -0.1}}}, r"blend\.weights\.bm25: .*or equal to 0"),
        ({"blend": {"weights": {"bm25": float("nan")}}}, r"blend\.weights\.bm25: Input should be"),
        ({"blend": {"weights": {"bm25": float("inf")}}}, r"blend\.weights\.bm25: Input should be"),
        ({"retrievers": ["sparse"]}, "'sparse' needs an encoder with lexical weights"),
        (
            {"encoder": {"kind": "none"}, "retrievers": ["bm25", "dense"]},
            "encoder.kind is none, and retriever 'dense' needs an encoder",
        ),
        (
            {"encoder": {"kind": "none"}, "retrievers": ["bm25"]},
            "encoder.kind is none, and finetune.enabled: true needs an encoder",
        ),
        (
            {
                "encoder": {"kind": "none"},
                "retrievers": ["bm25"],
                "finetune": {"enabled": False},
                "pairs": {"format": "triplet"},
            },
            "encoder.kind is none, and pairs.format: triplet needs an encoder",
        ),
        ({"blend": {"head": 9}}, "blend.head: .*greater than or equal to 10"),
        ({"encoder": {"multi_vector": True}}, "multi_vector needs kind bge_m3"),
        ({"encoder": {"kind": "sentence_transformers"}}, "needs a model"),
        (
            {"rankers": ["xgboost"], "bundle": {"ranker": "lightgbm"}},
            "bundle.ranker is 'lightgbm', which is not in rankers",
        ),
    ],
)
def test_wrong_parameters_are_refused_by_name(values: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        load_params(written(values, tmp_path))


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = written({"sead": 1, "blend": {"grid": 0}}, tmp_path)
    with pytest.raises(UserError, match=r"blend\.grid.*; sead|sead.*; blend\.grid"):
        load_params(path)


@pytest.mark.parametrize("text", ["a: [1", "- a list\n", "just words"])
def test_a_file_that_holds_no_parameters_is_an_error_that_names_it(
    text: str, tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=str(path)):
        load_params(path)


def test_a_missing_file_points_to_the_recipes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file; start from one of recipes/"):
        load_params(tmp_path / "params.yaml")


def test_sparse_is_allowed_where_the_encoder_has_it(tmp_path: Path) -> None:
    values = {"retrievers": ["sparse"], "encoder": {"kind": "bge_m3"}}
    assert load_params(written(values, tmp_path)).retrievers == ["sparse"]


def test_what_reads_histories_answers_moments(tmp_path: Path) -> None:
    values = {"retrievers": list(READS_HISTORY), "split": {"queries": "moments"}}
    assert load_params(written(values, tmp_path)).split.queries == "moments"


def test_cut_offs_of_the_seed_are_valid(tmp_path: Path) -> None:
    cuts = {"train_end_ms": 1621867671638, "valid_end_ms": 1643212573029}
    split = load_params(written({"split": {"method": "cutoffs", **cuts}}, tmp_path)).split
    assert (split.train_end_ms, split.valid_end_ms) == (1621867671638, 1643212573029)


def test_every_retriever_and_ranker_has_its_section() -> None:
    assert set(get_args(RetrieverName)) == set(type(Params().fit).model_fields)
    assert set(get_args(RankerName)) == set(type(Params().train).model_fields)


@pytest.mark.parametrize(("name", "model"), sections(Params))
def test_every_section_is_strict_frozen_and_says_what_it_is(
    name: str, model: type[BaseModel]
) -> None:
    assert issubclass(model, Section), name
    assert model.model_config["extra"] == "forbid"
    assert model.model_config["frozen"]
    assert model.__doc__


def test_the_defaults_survive_yaml() -> None:
    text = yaml.safe_dump(Params().model_dump(mode="json"))
    assert Params.model_validate(yaml.safe_load(text)) == Params()


def test_norwegian_is_named_in_quotes_as_yaml_has_no_for_false(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("keywords: {backend: openai, language: 'no'}\n")
    assert load_params(path).keywords.language == "no"
    for written in ("no", "off", "false", "yes"):
        path.write_text(f"keywords: {{backend: openai, language: {written}}}\n")
        with pytest.raises(UserError, match=r"keywords\.language: .*'no' in quotes for Norwegian"):
            load_params(path)
