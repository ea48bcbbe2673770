"""Attribute codes in; titles, features, descriptions and reviews out, assembled by column.

Every sentence is spelled out once (template by word) and drawn from its pool, so a review costs
a few array look-ups and no loop over words.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.prepare.sources import sample_words as words
from stages.prepare.sources.sample_words import Word

Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

NEGATIVE, MIXED, POSITIVE = 0, 1, 2
"""Sentiment of a review: 1 and 2 stars, 3 stars, 4 and 5 stars."""

VAGUE, PLAIN, DETAILED = 0, 1, 2
"""How much of the item a review names."""

CONCERNS: tuple[Word, ...] = tuple(w for d in words.DEPARTMENTS for w in words.CONCERNS[d])
"""The concerns of all departments in a row, as many of each."""

KIND_WORDS = tuple(
    Word(kind.name, tuple(noun.lower() for noun in kind.nouns), kind.lay) for kind in words.KINDS
)

ATTRIBUTES: dict[str, Sequence[Word]] = {
    "kind": KIND_WORDS,
    "concern": CONCERNS,
    "ingredient": words.INGREDIENTS,
    "texture": words.TEXTURES,
    "scent": words.SCENTS,
    "occasion": words.OCCASIONS,
    "audience": words.AUDIENCES,
    "tier": words.TIERS,
    "shade": words.SHADES,
}
"""What an item is made of; a code is a place in the attribute's row of words."""

FEATURES: dict[str, tuple[float, tuple[str, ...]]] = {
    "ingredient": (
        0.8,
        (
            "Made with {x}, sustainably sourced",
            "{x} nourishes with every use",
            "Powered by {x} and botanical extracts",
            "Enriched with {x}, no parabens",
        ),
    ),
    "concern": (
        0.8,
        (
            "{x} formula with visible results in two weeks",
            "Clinically tested {x} care",
            "{x} action that lasts",
        ),
    ),
    "texture": (
        0.7,
        ("{x} texture leaves no residue", "{x} that absorbs evenly", "{x} format, easy to apply"),
    ),
    "scent": (0.6, ("{x} scent", "Softly scented: {x}", "{x}, dermatologist approved")),
    "occasion": (0.6, ("Ideal for {x}", "Designed for {x}", "Perfect for {x}")),
    "audience": (0.5, ("Developed {x}", "Suitable {x}", "Gift-ready packaging, made {x}")),
    "tier": (0.4, ("A {x} choice", "Known for {x}")),
}
"""Share of items that list the attribute, and how."""

DESCRIPTION: dict[str, tuple[str, ...]] = {
    "kind": (
        "Meet the {x} that our customers ask for again and again.",
        "A {x} that was three years in the making.",
        "This {x} brings the salon to your bathroom shelf.",
    ),
    "concern": (
        "Its {x} complex works from the first application and builds up over time.",
        "We designed it around one promise: {x} care that you can feel.",
    ),
    "ingredient": (
        "At its heart is {x}, pressed in small batches and blended at low temperature.",
        "We chose {x} for its long tradition in care and because it suits most people.",
    ),
    "texture": (
        "{x} by nature, it spreads easily, so that a small amount goes a long way.",
        "{x} in the hand, it feels like nothing once it has settled.",
    ),
    "occasion": ("Made with {x} in mind.", "Many people reach for it when it comes to {x}."),
    "scent": ("Scent: {x}.", "A note of {x} lingers for an hour and then fades."),
    "audience": (
        "Tested and loved, {x}.",
        "Created {x}, cruelty free and bottled in recycled material.",
    ),
}

OPENINGS = (
    ("Not for me", "I wanted to love it", "Sadly a disappointment", "Waste of money for me"),
    (
        "It is okay",
        "Does the job, nothing special",
        "I have mixed feelings",
        "Decent but not great",
    ),
    (
        "I love this stuff",
        "So happy with this purchase",
        "Wow, it really works",
        "This has become a staple in our house",
        "Exactly what I was looking for",
        "I was skeptical but I am impressed",
    ),
)
NOISE = (
    "It arrived quickly and well packed",
    "The box was a bit dented but nothing leaked",
    "I saw it in a video and had to try it",
    "The cap broke after a week, which is annoying",
    "A little goes a long way",
    "I have tried so many products over the years",
    "The pump stopped working half way through",
    "It lasted me about two months",
    "My second order and still the same quality",
    "The label is hard to read",
    "I read the other reviews before ordering",
    "It came a day late but customer service was kind",
)
CLOSINGS = (
    ("I will not buy it again", "Returning it", "Save your money", "I gave it away in the end"),
    ("Might try another brand next time", "Three stars from me", "Not sure I would reorder it"),
    (
        "I will definitely buy it again",
        "Highly recommend it to anyone",
        "Already ordered two more",
        "Ten out of ten",
        "Give it a try, you will not regret it",
    ),
)
OUTCOMES = (
    (
        "It did nothing for {x}",
        "I still have to deal with {x}",
        "If anything it made things worse, and I bought it because of {x}",
    ),
    ("It helped a little with {x}", "For {x} it is so-so", "Somewhat useful against {x}"),
    (
        "It finally helped with {x}",
        "I had been fighting {x} for years and this is the answer",
        "Good bye {x}",
        "Within days I had less trouble with {x}",
        "I bought it because of {x} and it delivers",
    ),
)
REVIEW_TITLES = (
    ("Not worth it", "Disappointed", "Did not work for me", "Nope"),
    ("It is okay", "Average", "Mixed feelings", "Not bad"),
    ("Love it", "Great {x}", "My favorite {x}", "Five stars", "Best {x} so far", "Holy grail"),
)
SAID: dict[str, tuple[str, ...]] = {
    "kind": (
        "As a {x} it is easy to use",
        "I go through a lot of {x}",
        "This {x} is not like the others I own",
        "I needed a new {x}",
    ),
    "ingredient": (
        "You can tell that there is {x} in it",
        "I picked it because of the {x}",
        "The {x} makes the difference",
        "I look for {x} in everything I put on",
    ),
    "texture": ("The texture is {x}", "It is {x}, which I like", "Consistency wise it is {x}"),
    "scent": (
        "The scent is {x}",
        "As for the smell, it is {x}",
        "My partner noticed that it is {x}",
    ),
    "occasion": ("I use it {x}", "It is perfect {x}", "Most of the time I put it on {x}"),
    "audience": ("I got it for {x}", "It was a gift for {x}", "Even {x} wants to use it"),
    "tier": ("It is {x} for what you get", "My only comment is that it is {x}"),
    "shade": ("The color is {x}", "I chose the {x} one", "On me it turns out {x}"),
}
"""How a review names an attribute of its item."""

MENTION: dict[str, tuple[float, float, float]] = {
    "kind": (0.25, 0.65, 0.85),
    "concern": (0.0, 0.5, 0.8),
    "ingredient": (0.0, 0.35, 0.65),
    "texture": (0.0, 0.3, 0.6),
    "scent": (0.0, 0.3, 0.6),
    "occasion": (0.05, 0.35, 0.55),
    "audience": (0.1, 0.35, 0.5),
    "tier": (0.1, 0.25, 0.3),
    "shade": (0.0, 0.6, 0.9),
}
"""Share of vague, plain and detailed reviews that name the attribute."""

LAYOUTS = 12
"""In how many orders the sentences of a review stand."""

MIN_WORDS, MAX_WORDS = 20, 80


class Phrases:
    """Groups of phrases; `draw` picks one of the asked group for each row."""

    def __init__(self, groups: Sequence[Sequence[str]]) -> None:
        self._size = np.array([len(group) for group in groups])
        self._start = np.cumsum(self._size) - self._size
        self._pool = pl.Series([phrase for group in groups for phrase in group], dtype=pl.String)

    def draw(
        self, rng: np.random.Generator, group: Codes | int, rows: int, where: Mask | None = None
    ) -> pl.Series:
        """Return `rows` phrases of `group` (one code, or one a row), null outside `where`."""
        groups = np.broadcast_to(np.asarray(group, np.int64), rows)
        place = self._start[groups] + (rng.random(rows) * self._size[groups]).astype(np.int64)
        index = pl.Series(place.astype(np.uint32))
        if where is not None:
            index = index.set(pl.Series(~where), None)
        return self._pool.gather(index)


def spelled(templates: Sequence[str], said: Sequence[str]) -> list[str]:
    """Return every template with every word in the place of `{x}`."""
    return [template.replace("{x}", word) for template in templates for word in said]


def by_shop(name: str, templates: Sequence[str]) -> Phrases:
    """Phrases with an attribute as the catalogue says it, a group for each of its values."""
    return Phrases([spelled(templates, word.shop) for word in ATTRIBUTES[name]])


def by_people(name: str, templates: Sequence[str]) -> Phrases:
    """Phrases with an attribute as reviewers say it, a group for each of its values."""
    return Phrases([spelled(templates, word.lay) for word in ATTRIBUTES[name]])


def item_texts(
    rng: np.random.Generator, codes: dict[str, Codes], brand: pl.Series, line: pl.Series
) -> pl.DataFrame:
    """Return title, description (some null, some over 300 characters) and features of each item.

    Args:
        rng: where chance comes from.
        codes: a code an item for every attribute; `shade` is -1 where there is none.
        brand: a brand an item.
        line: a product line an item.
    """
    rows = len(codes["kind"])
    title = pl.DataFrame(
        {
            "brand": brand,
            "line": line,
            "concern": by_shop("concern", ["{x}"]).draw(
                rng, codes["concern"], rows, rng.random(rows) < 0.75
            ),
            "noun": Phrases([kind.nouns for kind in words.KINDS]).draw(rng, codes["kind"], rows),
            "ingredient": by_shop("ingredient", ["with {x}"]).draw(
                rng, codes["ingredient"], rows, rng.random(rows) < 0.75
            ),
            "audience": by_shop("audience", ["{x}"]).draw(
                rng, codes["audience"], rows, rng.random(rows) < 0.3
            ),
            "shade": by_shop("shade", ["- {x}"]).draw(
                rng, np.maximum(codes["shade"], 0), rows, codes["shade"] >= 0
            ),
            "scent": by_shop("scent", ["- {x}"]).draw(
                rng, codes["scent"], rows, (rng.random(rows) < 0.6) & (codes["shade"] < 0)
            ),
            "size": Phrases([spelled(["({x})"], words.SIZES)]).draw(rng, 0, rows),
        }
    )
    listed = pl.DataFrame(
        [
            by_shop(name, templates)
            .draw(rng, codes[name], rows, rng.random(rows) < share)
            .alias(name)
            for name, (share, templates) in FEATURES.items()
        ]
    )
    length = rng.choice(len(DESCRIPTION) + 1, rows, p=[0.1, 0.1, 0.15, 0.15, 0.15, 0.15, 0.1, 0.1])
    told = pl.DataFrame(
        [
            by_shop(name, templates).draw(rng, codes[name], rows, length > place).alias(name)
            for place, (name, templates) in enumerate(DESCRIPTION.items())
        ]
    )
    return pl.DataFrame(
        [
            _joined(title).alias("title"),
            _joined(told).set(pl.Series(length == 0), None).alias("description"),
            listed.select(pl.concat_list(pl.all()).list.drop_nulls()).to_series().alias("features"),
        ]
    )


def review_texts(
    rng: np.random.Generator,
    codes: dict[str, Codes],
    titles: pl.Series,
    brands: pl.Series,
    users: dict[str, Codes],
    sentiment: Codes,
) -> pl.DataFrame:
    """Return title and text of each review, and the truth about what it names.

    Args:
        rng: where chance comes from.
        codes: attribute codes of each review's item.
        titles: title of each review's item; three reviews in a hundred quote it.
        brands: brand of each review's item.
        users: codes `hair` and `skin` of each review's writer.
        sentiment: `NEGATIVE`, `MIXED` or `POSITIVE`.

    Returns:
        title, text, detail (`VAGUE`, `PLAIN`, `DETAILED`) and a Boolean `names_<attribute>` each.
    """
    rows = len(sentiment)
    detail = rng.choice(3, rows, p=[0.25, 0.5, 0.25])
    named = {
        name: (rng.random(rows) < np.array(shares)[detail]) & (codes[name] >= 0)
        for name, shares in MENTION.items()
    }
    said = {
        name: by_people(name, templates).draw(rng, np.maximum(codes[name], 0), rows, named[name])
        for name, templates in SAID.items()
    }
    outcomes = Phrases(
        [spelled(templates, word.lay) for word in CONCERNS for templates in OUTCOMES]
    )
    said["concern"] = outcomes.draw(
        rng, codes["concern"] * len(OUTCOMES) + sentiment, rows, named["concern"]
    )
    quoted, branded = rng.random(rows) < 0.03, (rng.random(rows) < 0.1) & (detail > VAGUE)
    said["quote"] = pl.select(pl.format("I ordered the {}", titles)).to_series()
    said["quote"] = said["quote"].set(pl.Series(~quoted), None)
    said["brand"] = pl.select(pl.format("I have used {} before", brands)).to_series()
    said["brand"] = said["brand"].set(pl.Series(~branded), None)
    said["self"] = _of_the_writer(rng, codes, users, rng.random(rows) < 0.3)
    other = rng.integers(0, len(words.INGREDIENTS), rows)
    said["other"] = by_people("ingredient", ["Before this I used something with {x}"]).draw(
        rng, other, rows, rng.random(rows) < 0.12
    )
    said["noise"] = Phrases([NOISE]).draw(rng, 0, rows, rng.random(rows) < 0.45)
    said["noise_2"] = Phrases([NOISE[::2]]).draw(rng, 0, rows, rng.random(rows) < 0.2)
    opening = Phrases(OPENINGS).draw(rng, sentiment, rows, rng.random(rows) < 0.8)
    closing = Phrases(CLOSINGS).draw(rng, sentiment, rows, rng.random(rows) < 0.7)
    text = _assembled(rng, opening, said, closing)
    text = _styled(rng, _of_length(rng, text))
    titles_of = Phrases(
        [spelled(templates, kind.lay) for kind in KIND_WORDS for templates in REVIEW_TITLES]
    )
    title = titles_of.draw(rng, codes["kind"] * len(REVIEW_TITLES) + sentiment, rows)
    truth = [pl.Series(f"names_{name}", mask) for name, mask in named.items()]
    return pl.DataFrame(
        [
            title.alias("title"),
            text.alias("text"),
            pl.Series("detail", detail.astype(np.int8)),
            *truth,
            pl.Series("names_title", quoted),
        ]
    )


def _of_the_writer(
    rng: np.random.Generator, codes: dict[str, Codes], users: dict[str, Codes], where: Mask
) -> pl.Series:
    """Who the writer is: hair for hair care, skin for the rest."""
    rows = len(where)
    hair = Phrases([[f"I have {x} hair", f"My hair is {x}"] for x in words.HAIR_TYPES])
    skin = Phrases([[f"I have {x} skin", f"My skin is {x}"] for x in words.SKIN_TYPES])
    department = np.array([words.DEPARTMENTS.index(kind.department) for kind in words.KINDS])
    about_hair = department[codes["kind"]] == words.DEPARTMENTS.index("Hair Care")
    return (
        hair.draw(rng, users["hair"], rows, where & about_hair)
        .to_frame("hair")
        .with_columns(skin.draw(rng, users["skin"], rows, where & ~about_hair).alias("skin"))
        .select(pl.coalesce("hair", "skin"))
        .to_series()
    )


def _assembled(
    rng: np.random.Generator, opening: pl.Series, said: dict[str, pl.Series], closing: pl.Series
) -> pl.Series:
    """Join sentences, those between opening and closing in one of `LAYOUTS` orders."""
    rows = len(opening)
    frame = pl.DataFrame(
        [
            opening.alias("opening"),
            *(sentence.alias(name) for name, sentence in said.items()),
            closing.alias("closing"),
            pl.Series("layout", rng.integers(0, LAYOUTS, rows)),
        ]
    ).with_row_index("row")
    between = np.array(list(said))
    parts = [
        frame.filter(pl.col("layout") == layout).select(
            "row",
            text=pl.concat_str(
                ["opening", *rng.permutation(between).tolist(), "closing"],
                separator=". ",
                ignore_nulls=True,
            ),
        )
        for layout in range(LAYOUTS)
    ]
    return pl.concat(parts).sort("row")["text"]


def _of_length(rng: np.random.Generator, text: pl.Series) -> pl.Series:
    """Pad short reviews with sentences that say nothing, cut those over `MAX_WORDS`."""
    for _ in range(5):
        short = (text.str.count_matches(" ") + 1 < MIN_WORDS).to_numpy()
        if not short.any():
            break
        more = Phrases([NOISE]).draw(rng, 0, len(text), short)
        frame = pl.DataFrame({"text": text, "more": more})
        text = frame.select(
            pl.when(pl.col("text") == "")
            .then("more")
            .otherwise(pl.concat_str("text", "more", separator=". ", ignore_nulls=True))
        ).to_series()
    long = text.str.count_matches(" ") + 1 > MAX_WORDS
    cut = text.filter(long).str.split(" ").list.head(MAX_WORDS).list.join(" ")
    return text.scatter(long.arg_true(), cut) if long.any() else text


def _styled(rng: np.random.Generator, text: pl.Series) -> pl.Series:
    """Write as people do: some without capitals, some with exclamation marks, some misspelt."""
    style = pl.Series("style", rng.integers(0, 20, len(text)))
    plain = pl.format("{}.", pl.col("text"))
    return (
        pl.DataFrame([text.alias("text"), style])
        .select(
            pl.when(pl.col("style") < 3)
            .then(plain.str.to_lowercase())
            .when(pl.col("style") < 6)
            .then(plain.str.replace_all(". ", "! ", literal=True))
            .when(pl.col("style") == 6)
            .then(
                plain.str.replace_many(
                    ["really", "definitely", "because"], ["realy", "definately", "becuase"]
                )
            )
            .otherwise(plain)
        )
        .to_series()
    )


def _joined(frame: pl.DataFrame) -> pl.Series:
    return frame.select(pl.concat_str(pl.all(), separator=" ", ignore_nulls=True)).to_series()
