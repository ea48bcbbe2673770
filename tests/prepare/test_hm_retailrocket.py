"""H&M and RetailRocket: files in the published forms, read exactly, or refused by file and row."""

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core import files, tables
from stages.core.log import UserError
from stages.core.params import Ingest
from stages.prepare.sources import Ingested, hm_retailrocket
from stages.prepare.sources.hm_retailrocket import HM_MAX_ID, from_numeric_id, numeric_id
from tests.prepare.conftest import digest

NAMES = (
    "article_id,prod_name,product_type_name,product_group_name,colour_group_name,section_name,"
    "garment_group_name,index_group_name,detail_desc"
)
TOP = "Strap top,Vest top,Garment Upper body,{},Womens Everyday Basics,Jersey Basic,Ladieswear"
ARTICLES = f"""{NAMES}
0108775015,{TOP.format("Black")},"Jersey top, narrow straps."
0108775044,{TOP.format("White")},
0500000001, ,,,,,,,
"""
CUSTOMERS = """customer_id,FN,Active,club_member_status,fashion_news_frequency,age,postal_code
c1,1.0,1.0,ACTIVE,Regularly,19.0,p
c2,,,PRE-CREATE,NONE,20,p
c3,,,,,,p
c9,,,ACTIVE,NONE,44,p
"""
TRANSACTIONS = """t_dat,customer_id,article_id,price,sales_channel_id
2018-09-20,c1,0108775015,0.02,2
2018-09-20,c1,0108775015,0.02,2
2018-09-20,c1,0108775015,0.01,1
2020-09-22,c2,0999999999,,
2020-09-22,c3,0108775015,0.02,2
"""
DAY, LAST = 1_537_401_600_000, 1_600_732_800_000
"""2018-09-20 and 2020-09-22."""

EVENTS = """timestamp,visitorid,event,itemid,transactionid
1433221332117,257597,view,355908,
1433224214164,992329,addtocart,355908,
1433224214999,992329,transaction,355908,4000
1433224214999,992329,transaction,355908,4000
1433221999827,111016,view,318965,
"""
PROPERTIES = """timestamp,itemid,property,value
1435000000000,355908,categoryid,1338
1436000000000,355908,categoryid,1114
1435000000000,355908,available,1
1436000000000,355908,available,0
1435000000000,355908,790,n277200.000
1435000000000,206783,888,1116713 960601 n277200.000
"""
MORE_PROPERTIES = """timestamp,itemid,property,value
1435000000000,460429,categoryid,77
1436000000000,355908,categoryid,213
"""
TREE = "categoryid,parentid\n1338,213\n213,140\n140,\n1114,140\n"


def write_hm(folder: Path) -> None:
    (folder / "articles.csv").write_text(ARTICLES)
    (folder / "customers.csv").write_text(CUSTOMERS)
    (folder / "transactions_train.csv").write_text(TRANSACTIONS)
    for name in ("010/0108775015", "077/0777777777", "010/0200000000", "050/0500000001"):
        (folder / "images" / f"{name}.jpg").parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / f"{name}.jpg").write_bytes(name.encode())


def write_retailrocket(folder: Path) -> None:
    (folder / "events.csv").write_text(EVENTS)
    (folder / "item_properties_part1.csv").write_text(PROPERTIES)
    (folder / "item_properties_part2.csv").write_text(MORE_PROPERTIES)
    (folder / "category_tree.csv").write_text(TREE)


@pytest.fixture
def shops(tmp_path: Path) -> Path:
    write_hm(tmp_path)
    write_retailrocket(tmp_path)
    return tmp_path


def read(folder: Path, parts: str = "both", **params: Any) -> Ingested:
    outer = {name: params.pop(name) for name in {"on_bad_row", "max_bad_rows"} & set(params)}
    about = {"parts": parts} | params
    options = Ingest.model_validate({"source": "hm_retailrocket", "hm_retailrocket": about} | outer)
    found = hm_retailrocket.ingest(options, folder)
    for name in ("items", "users", "events", "impressions", "properties"):
        tables.check(getattr(found, name), getattr(tables, name.upper()))
    return found


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def test_units_sold_are_events_of_their_day(shops: Path) -> None:
    found = read(shops, "hm")
    assert (found.rows, found.duplicates, found.bad_rows) == (5, 0, 0)
    events = found.events.drop("title", "text", "value")
    first = ("hm_c1", "hm_0108775015", at(DAY), "purchase")
    assert events.rows() == [
        (f"hm_c1:hm_0108775015:{DAY}:purchase", *first, 0.01, "1"),
        (f"hm_c1:hm_0108775015:{DAY}:purchase:1", *first, 0.02, "2"),
        (f"hm_c1:hm_0108775015:{DAY}:purchase:2", *first, 0.02, "2"),
        (
            f"hm_c2:hm_0999999999:{LAST}:purchase",
            *("hm_c2", "hm_0999999999", at(LAST), "purchase", None, None),
        ),
        (
            f"hm_c3:hm_0108775015:{LAST}:purchase",
            *("hm_c3", "hm_0108775015", at(LAST), "purchase", 0.02, "2"),
        ),
    ]
    assert set(found.events["value"]) == {1.0}


def test_articles_are_items_and_what_was_bought_is_one_too(shops: Path) -> None:
    items = read(shops, "hm").items
    down = ["Ladieswear", "Womens Everyday Basics", "Jersey Basic", "Garment Upper body"]
    columns = ("item_id", "title", "description", "categories", "colour_group_name", "image")
    assert items.select(*columns, "part").rows() == [
        (
            *("hm_0108775015", "Strap top", "Jersey top, narrow straps.", [*down, "Vest top"]),
            *("Black", "010/0108775015.jpg", "hm"),
        ),
        ("hm_0108775044", "Strap top", None, [*down, "Vest top"], "White", None, "hm"),
        ("hm_0500000001", None, None, [], None, "050/0500000001.jpg", "hm"),
        ("hm_0999999999", None, None, [], None, None, "hm"),
    ]
    assert items["department_name"].to_list() == [None] * 4, "no file has the column"


def test_article_files_complete_each_other(shops: Path) -> None:
    (shops / "articles.csv").unlink()
    published = pl.read_csv(ARTICLES.encode()).with_columns(pl.col("article_id").cast(pl.Int64))
    published.drop("detail_desc").write_parquet(shops / "articles.parquet")
    more = "article_id,prod_name,detail_desc\n0108775015,Another,Said here\n0300000000,New,\n"
    (shops / "articles_more.csv.gz").write_bytes(gzip.compress(more.encode()))
    items = read(shops, "hm", hm={"articles": ["articles.parquet", "articles_more*"]}).items
    said = items.select("item_id", "title", "description", pl.col("categories").list.len())
    assert said.rows() == [
        ("hm_0108775015", "Strap top", "Said here", 5),
        ("hm_0108775044", "Strap top", None, 5),
        ("hm_0300000000", "New", None, 0),
        ("hm_0500000001", None, None, 0),
        ("hm_0999999999", None, None, 0),
    ]


def test_articles_and_ages_that_are_written_as_floats(shops: Path) -> None:
    expected = read(shops, "hm")
    (shops / "articles.csv").unlink()
    (shops / "customers.csv").unlink()
    (shops / "transactions_train.csv").unlink()
    number = pl.col("article_id").cast(pl.Float64)
    pl.read_csv(ARTICLES.encode(), infer_schema=False).with_columns(number).write_parquet(
        shops / "articles.parquet"
    )
    pl.read_csv(TRANSACTIONS.encode(), infer_schema=False).with_columns(number).write_parquet(
        shops / "sold.parquet"
    )
    age = pl.col("age").cast(pl.Float64).fill_null(float("nan"))
    pl.read_csv(CUSTOMERS.encode(), infer_schema=False).with_columns(age).write_parquet(
        shops / "who.parquet"
    )
    found = read(shops, "hm", hm={"transactions": ["sold.parquet"], "customers": ["who.parquet"]})
    for table in ("items", "users", "events"):
        assert getattr(found, table).equals(getattr(expected, table)), table


def test_customers_who_bought_have_what_is_known_of_them(shops: Path) -> None:
    found = read(shops, "hm")
    assert found.users.rows() == [
        ("hm_c1", 19, "under 20", "ACTIVE", "Regularly", "hm"),
        ("hm_c2", 20, "20-29", "PRE-CREATE", "NONE", "hm"),
        ("hm_c3", None, None, None, None, "hm"),
    ]
    assert found.unseen_users == 1


@pytest.mark.parametrize(
    ("age", "band"), [(16, "under 20"), (29, "20-29"), (30, "30-39"), (69, "60-69"), (70, "70+")]
)
def test_age_bands(shops: Path, age: int, band: str) -> None:
    (shops / "customers.csv").write_text(CUSTOMERS.replace("19.0", str(age)))
    assert read(shops, "hm").users.row(0)[1:3] == (age, band)


def test_pictures_lie_where_the_items_say(shops: Path, run_ingest: Any) -> None:
    params = {"folder": str(shops), "hm_retailrocket": {"parts": "hm"}}
    first = run_ingest("hm_retailrocket", **params)
    named = first["items"]["image"].drop_nulls().to_list()
    lying = [path for path in files.PICTURES.rglob("*") if path.is_file()]
    assert sorted(path.relative_to(files.PICTURES).as_posix() for path in lying) == named
    assert (files.PICTURES / named[0]).read_bytes() == b"010/0108775015"
    assert run_ingest("hm_retailrocket", **params)["digest"] == first["digest"]
    assert first["metrics"]["unseen_users"] == 1


def test_visits_are_events_and_exact_copies_are_dropped(shops: Path) -> None:
    found = read(shops, "retailrocket")
    assert (found.rows, found.duplicates) == (5, 1)
    assert found.events.select("user_id", "item_id", "timestamp", "event").rows() == [
        ("rr_111016", "rr_318965", at(1433221999827), "view"),
        ("rr_257597", "rr_355908", at(1433221332117), "view"),
        ("rr_992329", "rr_355908", at(1433224214164), "cart"),
        ("rr_992329", "rr_355908", at(1433224214999), "purchase"),
    ]
    assert found.events["transaction_id"].to_list() == [None, None, None, "4000"]
    assert found.events["event_id"][3] == "rr_992329:rr_355908:1433224214999:purchase"


def test_what_changes_in_time_is_no_part_of_the_items(shops: Path) -> None:
    found = read(shops, "retailrocket")
    assert found.properties.sort("item_id", "name", "timestamp").rows() == [
        ("rr_355908", at(1435000000000), "available", "1"),
        ("rr_355908", at(1436000000000), "available", "0"),
        ("rr_355908", at(1435000000000), "categories", "140 > 213 > 1338"),
        # Said twice for this moment: the later file stands.
        ("rr_355908", at(1436000000000), "categories", "140 > 213"),
        ("rr_460429", at(1435000000000), "categories", "77"),
    ]
    assert found.items["item_id"].to_list() == ["rr_318965", "rr_355908", "rr_460429"]
    assert found.items.columns == [*tables.ITEMS.columns, "part"]
    assert found.items["categories"].list.len().sum() == 0


def test_visits_and_the_tree_in_floats_are_as_in_text(shops: Path) -> None:
    expected = read(shops, "retailrocket")
    (shops / "events.csv").unlink()
    (shops / "category_tree.csv").unlink()
    gaps = pl.all().cast(pl.Float64).fill_null(float("nan"))
    tree = pl.read_csv(TREE.encode()).with_columns(gaps)
    tree.write_parquet(shops / "tree.parquet")
    ids = pl.col("visitorid", "itemid", "transactionid").cast(pl.Float64).fill_null(float("nan"))
    pl.read_csv(EVENTS.encode()).with_columns(ids).write_parquet(shops / "events.parquet")
    found = read(
        shops,
        "retailrocket",
        retailrocket={"events": ["events.parquet"], "category_tree": ["tree.parquet"]},
    )
    for table in ("items", "events", "properties"):
        assert getattr(found, table).equals(getattr(expected, table)), table


def test_hashed_properties_are_read_by_their_number(shops: Path) -> None:
    found = read(shops, "retailrocket", retailrocket={"properties": ["790", "888"]})
    assert found.properties.select("item_id", "name", "value").sort("name").rows() == [
        ("rr_355908", "790", "n277200.000"),
        ("rr_206783", "888", "1116713 960601 n277200.000"),
    ]


def test_without_properties_there_are_events_alone(shops: Path) -> None:
    found = read(shops, "retailrocket", retailrocket={"item_properties": [], "category_tree": []})
    assert found.properties.is_empty()
    assert found.items["item_id"].to_list() == ["rr_318965", "rr_355908"]


def test_both_are_one_and_the_other(shops: Path) -> None:
    both, one, other = (read(shops, parts) for parts in ("both", "hm", "retailrocket"))
    for name in ("items", "users", "events", "properties"):
        merged = getattr(both, name)
        key = "item_id" if name == "properties" else merged.columns[0]
        for prefix, part in (("hm_", one), ("rr_", other)):
            alone = getattr(part, name)
            mine = merged.filter(pl.col(key).str.starts_with(prefix))
            assert mine.select(alone.columns).equals(alone)
        assert merged.height == getattr(one, name).height + getattr(other, name).height
    assert both.items["part"].value_counts().sort("part").rows() == [("hm", 4), ("retailrocket", 3)]
    assert (both.rows, both.duplicates, both.unseen_users) == (10, 1, 1)


BAD_HM = [
    ("transactions_train.csv", "2018-09-20,,0108775015,1,2", "'customer_id' is empty, expected an"),
    ("transactions_train.csv", "2018-09-20,c1,,1,2", "'article_id' is empty, expected up to ten"),
    ("transactions_train.csv", "2018-09-20,c1,12345678901,1,2", "'article_id' is '12345678901'"),
    ("transactions_train.csv", "20.9.2018,c1,0108775015,1,2", "'t_dat' is '20.9.2018', expected a"),
    ("transactions_train.csv", "1918-09-20,c1,0108775015,1,2", "'t_dat' is '1918-09-20'"),
    ("transactions_train.csv", "2018-02-30,c1,0108775015,1,2", "'t_dat' is '2018-02-30'"),
    ("transactions_train.csv", "2018-09-20,c1,0108775015,dear,2", "'price' is 'dear', expected a"),
    ("customers.csv", ",,,,,31,p", "'customer_id' is empty"),
    ("customers.csv", "c7,,,,,-1,p", "'age' is '-1', expected an age from 0 to 120"),
    ("customers.csv", "c1,,,,,50,p", "'customer_id' is 'c1', expected one row for each"),
    ("articles.csv", ",Skirt,,,,,,,", "'article_id' is empty"),
    ("articles.csv", "108775015,Skirt,,,,,,,", "'article_id' is '108775015', expected one row"),
]
BAD_RETAILROCKET = [
    ("events.csv", "1433221332117,,view,355908,", "'visitorid' is empty, expected an id"),
    ("events.csv", "1433221332117,1,wish,355908,", "'event' is 'wish', expected one of view, addt"),
    ("events.csv", "-5,1,view,355908,", "'timestamp' is '-5', expected a time between 1970"),
    ("events.csv", "1433221332117,1,view, ,", "'itemid' is ' ', expected an id"),
    ("item_properties_part1.csv", "-1,1,available,1", "'timestamp' is '-1'"),
    (
        "item_properties_part1.csv",
        "1433221332117,1,available,",
        "'value' is empty, expected a value",
    ),
    ("item_properties_part1.csv", "1433221332117,1,,7", "'property' is empty, expected a property"),
    ("category_tree.csv", ",5", "'categoryid' is empty, expected an id"),
    ("category_tree.csv", "213,5", "'categoryid' is '213', expected one row for each"),
]


@pytest.mark.parametrize(("name", "row", "said"), [*BAD_HM, *BAD_RETAILROCKET])
def test_a_bad_row_is_named_or_left_out(shops: Path, name: str, row: str, said: str) -> None:
    good = read(shops)
    path = shops / name
    line = len(path.read_text().splitlines()) + 1
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(UserError, match="on_bad_row") as refused:
        read(shops)
    assert f"{path}:{line}: column {said}" in str(refused.value)
    with pytest.raises(UserError, match="max_bad_rows is 0"):
        read(shops, on_bad_row="skip", max_bad_rows=0)
    found = read(shops, on_bad_row="skip")
    assert found.bad_rows == 1
    for table in ("items", "users", "events", "properties"):
        assert getattr(found, table).equals(getattr(good, table))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hm": {"images": "photos"}}, "photos: no such folder; put the pictures there"),
        ({"hm": {"articles": ["a.csv"]}}, r"no file matches a\.csv; .*hm_retailrocket\.hm\.art"),
        ({"hm": {"customers": ["a.csv"]}}, r"no file matches a\.csv; .*hm\.customers"),
        ({"hm": {"customers": ["articles.csv"]}}, r"articles\.csv: no column customer_id, age"),
        ({"retailrocket": {"category_tree": ["t.csv"]}}, r"no file matches t\.csv"),
        ({"retailrocket": {"events": ["customers.csv"]}}, "no column visitorid, itemid"),
    ],
)
def test_what_is_not_there_is_named(shops: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(shops, **change)


def test_a_category_above_itself_is_refused(shops: Path) -> None:
    (shops / "category_tree.csv").write_text("categoryid,parentid\n1,2\n2,3\n3,2\n")
    with pytest.raises(UserError, match=r"category 2 is above itself \(3 > 2 > 1\)"):
        read(shops, "retailrocket")


def test_files_without_a_row_are_refused(shops: Path) -> None:
    (shops / "events.csv").write_text(EVENTS.splitlines()[0] + "\n")
    with pytest.raises(UserError, match="no event of retailrocket"):
        read(shops)


def test_numbers_of_the_other_scheme() -> None:
    assert numeric_id("hm_0108775015") == 2_010_877_501_5
    assert numeric_id("rr_355908") == 355_908
    assert from_numeric_id(2_010_877_501_5) == "hm_0108775015"
    assert from_numeric_id(HM_MAX_ID - 1) == "rr_2999999"


@given(st.integers(0, HM_MAX_ID - 1) | st.integers(20_000_000_000, 29_999_999_999))
def test_numbers_and_ids_are_each_others_inverse(number: int) -> None:
    assert numeric_id(from_numeric_id(number)) == number


@pytest.mark.parametrize("item_id", ["hm_10877501", "rr_3000000", "rr_007", "in_5", "rr_", "7"])
def test_an_id_without_a_number_is_refused(item_id: str) -> None:
    with pytest.raises(UserError, match=f"{item_id!r} has no number"):
        numeric_id(item_id)


@pytest.mark.parametrize("number", [-1, HM_MAX_ID, 10_108_775_015, 200_000_000_000])
def test_a_number_of_neither_shop_is_refused(number: int) -> None:
    with pytest.raises(UserError, match=f"{number} is of neither shop"):
        from_numeric_id(number)


def test_real_articles_customers_transactions_and_pictures(
    real_data: Path, run_ingest: Any
) -> None:
    folder = real_data / "hm"
    articles = ["articles.parquet", "articles_with_detail_desc*"]
    about = {"parts": "hm", "hm": {"articles": articles}}
    out = run_ingest("hm_retailrocket", folder=str(folder), hm_retailrocket=about)
    sold = pl.read_csv(next(folder.glob("transactions*")), infer_schema=False)
    assert (out["metrics"]["rows"], out["metrics"]["duplicates"]) == (31_662, 0)
    pairs = pl.concat_str("customer_id", "article_id", "t_dat", separator=" ")
    day = pl.col("timestamp").dt.strftime("%Y-%m-%d")
    ours = pl.concat_str(
        pl.col("user_id").str.slice(3), pl.col("item_id").str.slice(3), day, separator=" "
    )
    expected = sold.select(pairs.sort()).to_series()
    assert out["events"].select(ours.sort()).to_series().equals(expected, check_names=False)
    assert out["events"]["price"].sum() == pytest.approx(sold["price"].cast(pl.Float64).sum())
    assert (out["items"].height, out["users"].height) == (105_542, 1_364)
    assert out["items"]["description"].count() == 11_793
    assert out["items"]["title"].null_count() == 0
    assert out["users"]["age"].null_count() == 12
    pictures = {path.relative_to(folder / "images").as_posix() for path in folder.rglob("*.jpg")}
    assert len(pictures) == 500
    assert set(out["items"]["image"].drop_nulls()) == pictures
    assert len([name for name in out["digest"] if name.endswith(".jpg")]) == 500
    assert digest(folder / "images") == digest(files.PICTURES)
