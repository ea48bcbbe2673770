"""Recipes: each is a whole params file, and the one in use is the sample."""

from pathlib import Path

import pytest
import yaml

from stages.core.params import Params, load_params
from tests.test_pipeline import _keys

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
