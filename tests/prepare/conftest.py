import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from stages.core import files
from stages.core.storage import read_json
from stages.prepare import ingest

Tables = dict[str, Any]


@pytest.fixture
def run_ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tables]:
    """Run the stage in a fresh folder, with raw files in `raw/`; return its tables and metrics."""
    monkeypatch.chdir(tmp_path)

    def run(source: str = "amazon", **options: Any) -> Tables:
        chosen = {"source": source, "folder": "raw", **options}
        Path("params.yaml").write_text(yaml.safe_dump({"ingest": chosen}), encoding="utf-8")
        ingest.main(Path("params.yaml"))
        return {
            "items": pl.read_parquet(files.ITEMS),
            "users": pl.read_parquet(files.USERS),
            "events": pl.read_parquet(files.EVENTS),
            "impressions": pl.read_parquet(files.IMPRESSIONS),
            "metrics": read_json(files.METRICS / "ingest.json"),
            "digest": digest(files.DATA / "ingest"),
        }

    return run


def digest(folder: Path) -> dict[str, str]:
    """Hash every file under a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
