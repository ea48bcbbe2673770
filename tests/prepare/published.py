"""Rows as Amazon's files have been published, in the shapes of 2023, 2018 and 2014."""

import json
from pathlib import Path
from typing import Any

REVIEW_2023: dict[str, Any] = {
    "rating": 5.0,
    "title": "Such a lovely scent but not overpowering.",
    "text": "This spray is really nice. It smells really good, goes on really fine.",
    "images": [],
    "asin": "B00YQ6X8EO",
    "parent_asin": "B00YQ6X8EO",
    "user_id": "AGKHLEW2SOWHNMFQIJGBECAF7INQ",
    "timestamp": 1588687728923,
    "helpful_vote": 0,
    "verified_purchase": True,
}
REVIEW_2018: dict[str, Any] = {
    "overall": 4.0,
    "vote": "1,003",
    "verified": True,
    "reviewTime": "09 1, 2016",
    "reviewerID": "A3CIUOJXQ5VDQ2",
    "asin": "B0000530HU",
    "style": {"Size:": " 7.0 oz", "Flavor:": " Classic Ice Blue"},
    "reviewerName": "Shelly F",
    "reviewText": "As advertised. Reasonably priced",
    "summary": "Four Stars",
    "unixReviewTime": 1472688000,
    "image": ["https://images-na.ssl-images-amazon.com/images/I/71.jpg"],
}
REVIEW_2014: dict[str, Any] = {
    "reviewerID": "A14VAT5EAX3D9S",
    "asin": "1384719342",
    "reviewerName": "Jake",
    "helpful": [13, 14],
    "reviewText": "The product does exactly as it should and is quite affordable.",
    "overall": 5.0,
    "summary": "Jake",
    "unixReviewTime": 1363392000,
    "reviewTime": "03 16, 2013",
}
METADATA_2023: dict[str, Any] = {
    "main_category": "All Beauty",
    "title": "Herbivore Sea Mist",
    "average_rating": 4.8,
    "rating_number": 10,
    "features": ["Beach waves", "Vegan"],
    "description": ["Texturizing salt spray.", "With coconut."],
    "price": "from 12.99",
    "images": [
        {"thumb": "https://a/t.jpg", "large": "https://a/l.jpg", "variant": "MAIN", "hi_res": None},
        {"thumb": "https://b/t.jpg", "large": "https://b/l.jpg", "variant": "PT01", "hi_res": None},
    ],
    "videos": [{"title": "x", "url": "https://v", "user_id": ""}],
    "store": "Herbivore Botanicals",
    "categories": [],
    "details": {"UPC": "617390882781", "Item Form": "Spray"},
    "parent_asin": "B00YQ6X8EO",
    "bought_together": None,
}
METADATA_2018: dict[str, Any] = {
    "category": ["Beauty", "Shave"],
    "tech1": "",
    "description": ["Shaves close."],
    "fit": "",
    "title": "Ice Blue Aqua Velva",
    "also_buy": ["B0"],
    "image": ["https://c/1.jpg", "https://c/2.jpg"],
    "brand": "Aqua Velva",
    "feature": ["Cooling"],
    "rank": "2,938,573 in Beauty",
    "main_cat": "All Beauty",
    "price": "$7.99",
    "asin": "B0000530HU",
}
METADATA_2014: dict[str, Any] = {
    "asin": "1384719342",
    "title": "Pop Filter",
    "price": 9.5,
    "imUrl": "https://d/1.jpg",
    "related": {"also_bought": ["B1"]},
    "salesRank": {"Musical Instruments": 5},
    "brand": "Nady",
    "categories": [["Musical Instruments", "Microphones"]],
    "description": "A filter.",
}


def write_lines(path: Path, *rows: dict[str, Any] | str) -> Path:
    """Write rows as JSON lines, and texts as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
