"""Every file of a run, named once: what stage options default to and `dvc.yaml` is tested on."""

import os
from pathlib import Path

PARAMS = Path("params.yaml")
DATA = Path("data")

# prepare
ITEMS = DATA / "ingest" / "items.parquet"
USERS = DATA / "ingest" / "users.parquet"
EVENTS = DATA / "ingest" / "events.parquet"
IMPRESSIONS = DATA / "ingest" / "impressions.parquet"
PROPERTIES = DATA / "ingest" / "properties.parquet"
TRUTH = DATA / "ingest" / "truth"
PICTURES = DATA / "ingest" / "pictures"
SPLIT_EVENTS = DATA / "split" / "events.parquet"
REVIEW_QUERIES = DATA / "split" / "queries.parquet"
SPLIT_PROPERTIES = DATA / "split" / "properties.parquet"
CUTS = DATA / "split" / "cuts.json"

# enrich
KEYWORDS = DATA / "keywords.parquet"
SUMMARIES = DATA / "summaries.parquet"
QUERIES = DATA / "queries.parquet"
DOCUMENTS = DATA / "documents.parquet"

# encode
PAIRS = DATA / "pairs.parquet"
ENCODERS = Path("models") / "encoders"
BASE_MODEL = ENCODERS / "base"
TUNED_MODEL = ENCODERS / "tuned"
EMBEDDINGS = DATA / "embeddings"
PICTURE_VECTORS = DATA / "pictures.parquet"
CHROMA = DATA / "chroma"

# retrieve
RETRIEVERS = Path("models") / "retrievers"
CANDIDATES = DATA / "candidates"
BLEND = DATA / "blend.parquet"
BLEND_MODEL = Path("models") / "blend.json"

# rank
EXAMPLES = DATA / "examples.parquet"
FEATURES_MODEL = Path("models") / "features"
RANKERS = Path("models") / "rankers"
SCORES = DATA / "scores"

# evaluate
METRICS = Path("metrics")
PLOTS = Path("plots")
REPORT = Path("report")

# publish
BUNDLE = Path("bundle")

# Paid-for answers and vectors: kept by their content's hash, outside DVC, safe to delete. Queued
# experiments run in folders of their own; an absolute WINNOW_STORE lets them share what was paid.
STORE = Path(os.environ.get("WINNOW_STORE", ".store"))
LLM_STORE = STORE / "answers.sqlite"
VECTOR_STORE = STORE / "vectors.sqlite"
