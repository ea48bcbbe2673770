"""The generated shop: a catalogue, people with tastes, what they wrote, saw and clicked.

Everything is drawn from one seeded generator and comes out in columns. An item is a bundle of
attributes and its latent vector is their sum; a person's latent vector comes from who they are and
drifts with time. People take what is popular, launched and near to their taste, and write about
it. The truth behind all this comes back beside the tables, so that tests can ask for it.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.core.params import Sample
from stages.core.tables import DAY_MS, TIME
from stages.prepare.sources import Ingested
from stages.prepare.sources import sample_words as words
from stages.prepare.sources.sample_pictures import draw
from stages.prepare.sources.sample_texts import (
    ATTRIBUTES,
    MIXED,
    NEGATIVE,
    POSITIVE,
    Codes,
    item_texts,
    review_texts,
)

Floats = NDArray[np.float32]

START_MS = 1_609_459_200_000
"""2021-01-01; the shop's time 0."""
SPAN_MS = 3 * 365 * DAY_MS
"""Three years; the shop's time 1."""

FACTORS = 8
CHOICES = 48
"""Items a person looks at before taking one."""
TASTE = 6.0
"""Weight of taste against chance in a choice."""
DRIFT = 0.8
"""How far tastes move in the shop's time, in lengths of a taste vector."""
LIST_LENGTH = 10
"""Positions of one list of impressions."""
BLOCK = 20_000
STARS = (0.10, 0.06, 0.10, 0.17, 0.57)

DETAIL_WEIGHTS = {
    "kind": 1.0,
    "concern": 1.2,
    "ingredient": 0.9,
    "texture": 0.8,
    "scent": 0.9,
    "occasion": 0.5,
    "audience": 0.7,
    "tier": 0.5,
}
"""How much each attribute counts in an item's latent vector."""


@dataclass(frozen=True)
class Catalogue:
    """Items in columns.

    Attributes:
        codes: a code an item for each attribute, and `department`.
        latent: unit vectors, (items, FACTORS).
        popularity: share of attention, long-tailed.
        launch: when it appears, in the shop's time; before 0 for most.
        quality: what everybody finds of it.
    """

    codes: dict[str, Codes]
    latent: Floats
    popularity: NDArray[np.float64]
    launch: NDArray[np.float64]
    quality: NDArray[np.float64]


@dataclass(frozen=True)
class People:
    """Users in columns.

    Attributes:
        codes: hair, skin, age, climate.
        latent: unit vectors at the middle of the shop's time, (users, FACTORS).
        drift: unit vectors along which they move.
        joined: when they come, in the shop's time.
        activity: share of all writing, long-tailed.
    """

    codes: dict[str, Codes]
    latent: Floats
    drift: Floats
    joined: NDArray[np.float64]
    activity: NDArray[np.float64]

    def taste(self, user: Codes, time: NDArray[np.float64]) -> Floats:
        """Return unit taste vectors of users at times."""
        moved = (DRIFT * (time - 0.5)).astype(np.float32)[:, None] * self.drift[user]
        return _unit(self.latent[user] + moved)


def generate(scale: Sample, seed: int) -> Ingested:
    """Return a shop's tables, truth and pictures; equal arguments give equal ones."""
    rng = np.random.default_rng(seed)
    vectors = {
        name: rng.normal(size=(len(values), FACTORS)).astype(np.float32)
        for name, values in ATTRIBUTES.items()
    }
    catalogue = draw_catalogue(rng, scale.items, vectors)
    people = draw_people(rng, scale.users, vectors)
    items, item_truth = item_table(rng, catalogue)
    users, user_truth = user_table(people)
    events, event_truth = review_events(rng, scale.reviews, catalogue, people, items)
    impressions, impression_truth = shown_lists(rng, scale.impressions, catalogue, people)
    pictures, names = draw_pictures(catalogue, scale.pictures)
    return Ingested(
        items=items.with_columns(image=names),
        users=users,
        events=events,
        impressions=impressions,
        rows=events.height,
        truth={
            "items": item_truth,
            "users": user_truth,
            "events": event_truth,
            "impressions": impression_truth,
        },
        pictures=pictures,
    )


def draw_catalogue(rng: np.random.Generator, rows: int, vectors: dict[str, Floats]) -> Catalogue:
    """Draw attributes, popularity (Zipf), launches (a third later) and quality of each item."""
    kind = rng.integers(0, len(words.KINDS), rows)
    department = _DEPARTMENT[kind]
    per_department = len(words.CONCERNS[words.DEPARTMENTS[0]])
    texture = np.array(
        [
            _TEXTURES[k][int(u * len(_TEXTURES[k]))]
            for k, u in zip(kind, rng.random(rows), strict=True)
        ]
    )
    colored = np.isin(kind, [i for i, k in enumerate(words.KINDS) if k.name in _COLORED])
    codes: dict[str, Codes] = {
        "kind": kind,
        "department": department,
        "concern": department * per_department + rng.integers(0, per_department, rows),
        "ingredient": rng.integers(0, len(words.INGREDIENTS), rows),
        "texture": texture,
        "scent": rng.integers(0, len(words.SCENTS), rows),
        "occasion": rng.integers(0, len(words.OCCASIONS), rows),
        "audience": rng.integers(0, len(words.AUDIENCES), rows),
        "tier": rng.choice(len(words.TIERS), rows, p=[0.35, 0.45, 0.2]),
        "shade": np.where(colored, rng.integers(0, len(words.SHADES), rows), -1),
    }
    brands = int(np.clip(rows // 15, 8, len(_BRANDS)))
    codes["brand"] = np.minimum(rng.zipf(1.3, rows) - 1, 10 * brands) % brands
    latent = sum(
        weight * vectors[name][codes[name]] for name, weight in DETAIL_WEIGHTS.items()
    ) + rng.normal(0, 0.5, (rows, FACTORS)).astype(np.float32)
    popularity = (1 + rng.permutation(rows)) ** -0.65
    launch = np.where(rng.random(rows) < 0.65, -1.0, rng.random(rows) * 0.97)
    return Catalogue(
        codes, _unit(latent), popularity / popularity.sum(), launch, rng.normal(size=rows)
    )


def draw_people(rng: np.random.Generator, rows: int, vectors: dict[str, Floats]) -> People:
    """Draw who people are, and tastes that follow from it and from themselves."""
    sizes = {
        "hair": len(words.HAIR_TYPES),
        "skin": len(words.SKIN_TYPES),
        "age": len(words.AGE_BANDS),
        "climate": len(words.CLIMATES),
    }
    codes = {name: rng.integers(0, size, rows) for name, size in sizes.items()}
    leaning = {
        name: rng.normal(size=(size, FACTORS)).astype(np.float32) for name, size in sizes.items()
    }
    likes = {
        name: vectors[name][rng.integers(0, len(vectors[name]), rows)]
        for name in ("concern", "scent", "ingredient", "kind")
    }
    latent = sum(0.5 * leaning[name][codes[name]] for name in sizes) + sum(likes.values())
    activity = rng.lognormal(0, 1.0, rows)
    joined = np.where(rng.random(rows) < 0.4, 0.0, rng.random(rows) * 0.98)
    return People(
        codes,
        _unit(np.asarray(latent, np.float32)),
        _unit(rng.normal(size=(rows, FACTORS)).astype(np.float32)),
        joined,
        activity / activity.sum(),
    )


def item_table(rng: np.random.Generator, catalogue: Catalogue) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the items, as a shop publishes them, and the truth about them."""
    codes = catalogue.codes
    rows = len(codes["kind"])
    brand = pl.Series(_BRANDS).gather(codes["brand"])
    first = pl.Series(list(words.LINE_FIRST)).gather(rng.integers(0, len(words.LINE_FIRST), rows))
    last = pl.Series(list(words.LINE_LAST)).gather(rng.integers(0, len(words.LINE_LAST), rows))
    texts = item_texts(rng, codes, brand, first + " " + last)
    price = np.array([6.0, 16.0, 45.0])[codes["tier"]] * rng.lognormal(0, 0.35, rows)
    names = {
        name: _names(name).gather(pl.Series(np.maximum(codes[name], 0))) for name in ATTRIBUTES
    }
    names["shade"] = names["shade"].set(pl.Series(codes["shade"] < 0), None)
    ids = item_ids(rows)
    truth = pl.DataFrame(
        {
            "item_id": ids,
            **names,
            "popularity": catalogue.popularity,
            "quality": catalogue.quality,
            "launched": _times(np.maximum(catalogue.launch, 0)),
            "latent": pl.Series(catalogue.latent, dtype=pl.Array(pl.Float32, FACTORS)),
        }
    )
    category = pl.Series([kind.category for kind in words.KINDS]).gather(codes["kind"])
    department = pl.Series(list(words.DEPARTMENTS)).gather(codes["department"])
    items = texts.with_columns(
        item_id=ids,
        categories=pl.concat_list(pl.lit("Beauty & Personal Care"), department, category),
        brand=brand,
        price=pl.Series(np.floor(price) + 0.99).set(pl.Series(rng.random(rows) < 0.05), None),
        image=pl.lit(None, pl.String),
        details=pl.struct(
            names["texture"].alias("Item Form"),
            names["scent"].alias("Scent"),
            names["ingredient"].alias("Active Ingredients"),
        ).struct.json_encode(),
        texture=names["texture"],
        scent=names["scent"],
    )
    return items, truth


def user_table(people: People) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the users with their attributes, and the truth about them."""
    ids = user_ids(len(people.joined))
    values = {
        "age_band": (words.AGE_BANDS, "age"),
        "hair_type": (words.HAIR_TYPES, "hair"),
        "skin_type": (words.SKIN_TYPES, "skin"),
        "climate": (words.CLIMATES, "climate"),
    }
    users = pl.DataFrame(
        {
            "user_id": ids,
            **{
                column: pl.Series(list(names)).gather(people.codes[code])
                for column, (names, code) in values.items()
            },
        }
    )
    truth = pl.DataFrame(
        {
            "user_id": ids,
            "activity": people.activity,
            "joined": _times(people.joined),
            "latent": pl.Series(people.latent, dtype=pl.Array(pl.Float32, FACTORS)),
            "drift": pl.Series(people.drift, dtype=pl.Array(pl.Float32, FACTORS)),
        }
    )
    return users, truth


def review_events(
    rng: np.random.Generator,
    rows: int,
    catalogue: Catalogue,
    people: People,
    items: pl.DataFrame,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw who reviews what and when, and write the reviews."""
    user, time = _moments(rng, rows, people)
    order = np.argsort(time, kind="stable")
    user, time = user[order], time[order]
    item, affinity = choose(rng, user, time, catalogue, people, CHOICES, TASTE)
    liking = 2 * affinity + 0.4 * catalogue.quality[item] + rng.normal(0, 0.6, rows)
    bounds = np.quantile(liking, np.cumsum(STARS)[:-1])
    stars = 1 + np.searchsorted(bounds, liking)
    sentiment = np.where(stars <= 2, NEGATIVE, np.where(stars == 3, MIXED, POSITIVE))
    texts = review_texts(
        rng,
        {name: codes[item] for name, codes in catalogue.codes.items()},
        items["title"].gather(item),
        items["brand"].gather(item),
        {name: people.codes[name][user] for name in ("hair", "skin")},
        sentiment.astype(np.int64),
    )
    # Every review has a millisecond of its own, so that user, item and time name it.
    steps = np.arange(rows)
    ms = np.maximum.accumulate(START_MS + (time * SPAN_MS).astype(np.int64) - steps) + steps
    events = texts.select(
        pl.format("{}:{}:{}", _ids("u", user), _ids("i", item), pl.Series(ms)).alias("event_id"),
        _ids("u", user).alias("user_id"),
        _ids("i", item).alias("item_id"),
        pl.Series("timestamp", ms).cast(TIME),
        pl.lit("rate").cast(pl.Enum(["view", "cart", "purchase", "rate"])).alias("event"),
        pl.Series("value", stars.astype(np.float64)),
        "title",
        "text",
        pl.Series("helpful_vote", rng.poisson(0.6, rows), dtype=pl.Int64),
        pl.Series("verified_purchase", rng.random(rows) < 0.9),
    )
    truth = texts.select(
        events["event_id"],
        pl.Series("affinity", affinity, dtype=pl.Float32),
        pl.exclude("title", "text"),
    )
    return events, truth


def shown_lists(
    rng: np.random.Generator, rows: int, catalogue: Catalogue, people: People
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw lists that were shown, what was clicked (by place and taste) and what was bought."""
    lists = -(-rows // LIST_LENGTH)
    user, time = _moments(rng, lists, people)
    device = rng.choice(len(words.DEVICES), lists, p=[0.6, 0.3, 0.1])
    at = np.repeat(np.arange(lists), LIST_LENGTH)[:rows]
    user, time, device = user[at], time[at], device[at]
    position = np.arange(rows) % LIST_LENGTH + 1
    item, affinity = choose(rng, user, time, catalogue, people, 4, TASTE / 3)
    examined = position**-0.6
    p_click = examined * _sigmoid(5 * affinity - 2)
    appeal = 4 * affinity + 0.5 * catalogue.quality[item] - 0.5 * catalogue.codes["tier"][item]
    p_conversion = _sigmoid(appeal - 1.5)
    click = rng.random(rows) < p_click
    conversion = click & (rng.random(rows) < p_conversion)
    ids = pl.Series("impression_id", np.arange(rows)).cast(pl.String).str.zfill(9)
    impressions = pl.DataFrame(
        {
            "impression_id": "sa_" + ids,
            "user_id": _ids("u", user),
            "item_id": _ids("i", item),
            "timestamp": _times(time),
            "click": pl.Series(click.astype(np.int8)),
            "conversion": pl.Series(conversion.astype(np.int8)),
            "position": pl.Series(position.astype(np.int32)),
            "list_id": _ids("l", at),
            "device": pl.Series(list(words.DEVICES)).gather(device),
        }
    )
    truth = pl.DataFrame(
        {
            "impression_id": impressions["impression_id"],
            "affinity": pl.Series(affinity, dtype=pl.Float32),
            "p_examine": examined,
            "p_click": p_click,
            "p_conversion": p_conversion,
        }
    )
    return impressions, truth


def choose(
    rng: np.random.Generator,
    user: Codes,
    time: NDArray[np.float64],
    catalogue: Catalogue,
    people: People,
    choices: int,
    taste: float,
) -> tuple[Codes, Floats]:
    """Return the item that each person takes at a time, and its affinity (cosine of latents).

    A person looks at `choices` items, drawn by popularity, and takes the launched one for which
    taste x affinity + Gumbel noise is highest: a softmax over what was looked at.
    """
    total = np.cumsum(catalogue.popularity)
    first = int(np.argmin(catalogue.launch))
    taken, affinities = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for start in range(0, len(user), BLOCK):
        who, when = user[start : start + BLOCK], time[start : start + BLOCK]
        seen = np.searchsorted(total, rng.random((len(who), choices)) * total[-1])
        seen[:, 0] = np.where(
            (catalogue.launch[seen] <= when[:, None]).any(axis=1), seen[:, 0], first
        )
        affinity = np.einsum("rck,rk->rc", catalogue.latent[seen], people.taste(who, when))
        utility = taste * affinity + rng.gumbel(size=affinity.shape)
        utility[catalogue.launch[seen] > when[:, None]] = -np.inf
        best = utility.argmax(axis=1)
        rows = np.arange(len(who))
        taken.append(seen[rows, best])
        affinities.append(affinity[rows, best])
    return np.concatenate(taken), np.concatenate(affinities)


def draw_pictures(catalogue: Catalogue, number: int) -> tuple[dict[str, bytes], pl.Series]:
    """Draw the first `number` items; return files by name and the items' image column.

    They are the first and not the most reviewed: to have a picture must not tell who will be.
    """
    ids = item_ids(len(catalogue.launch))
    pictures = {}
    for item, item_id in enumerate(ids.head(number)):
        of = {name: int(codes[item]) for name, codes in catalogue.codes.items()}
        pictures[f"{item_id}.png"] = draw(
            words.KINDS[of["kind"]].shape,
            of["department"],
            of["scent"],
            of["shade"],
            of["texture"],
            of["tier"],
        )
    names = (ids + ".png").to_frame("image")
    return pictures, names.select(
        pl.when(pl.col("image").is_in(list(pictures))).then("image")
    ).to_series()


def item_ids(rows: int) -> pl.Series:
    """Return the ids of the first `rows` items."""
    return _ids("i", np.arange(rows))


def user_ids(rows: int) -> pl.Series:
    """Return the ids of the first `rows` users."""
    return _ids("u", np.arange(rows))


def _ids(kind: str, numbers: Codes) -> pl.Series:
    return f"sa_{kind}" + pl.Series(numbers).cast(pl.String).str.zfill(7)


def _names(attribute: str) -> pl.Series:
    return pl.Series([word.name for word in ATTRIBUTES[attribute]])


def _times(time: NDArray[np.float64]) -> pl.Series:
    return pl.Series(START_MS + (time * SPAN_MS).astype(np.int64)).cast(TIME)


def _moments(
    rng: np.random.Generator, rows: int, people: People
) -> tuple[Codes, NDArray[np.float64]]:
    """Draw who acts and when: active people more often, nobody before they joined."""
    weight = np.cumsum(people.activity * (1 - people.joined))
    user = np.searchsorted(weight, rng.random(rows) * weight[-1])
    joined = people.joined[user]
    return user, joined + (1 - joined) * rng.random(rows)


def _unit(vectors: Floats) -> Floats:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)


def _sigmoid(x: NDArray[np.floating]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


# 30 first and 13 last words: no common factor, so no pair comes twice.
_BRANDS = [
    f"{words.BRAND_FIRST[place % 30]} {words.BRAND_LAST[place % 13]}" for place in range(30 * 13)
]
_COLORED = {"lip color", "foundation", "mascara"}
_DEPARTMENT = np.array([words.DEPARTMENTS.index(kind.department) for kind in words.KINDS])
_TEXTURE_NAMES = [word.name for word in words.TEXTURES]
_TEXTURES = [[_TEXTURE_NAMES.index(name) for name in kind.textures] for kind in words.KINDS]
