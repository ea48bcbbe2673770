"""The bundle's manifest, and the recommender that answers from a bundle."""

from stages.publish.serving.manifest import Manifest, read_manifest
from stages.publish.serving.recommender import Recommender

__all__ = ["Manifest", "Recommender", "read_manifest"]
