"""The vocabulary of the generated shop: how a catalogue names things, and how people do.

A catalogue says "Anti-Frizz"; a reviewer says "my hair puffs up". Some words are shared, some are
not, so words alone find an item often but not always.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """One value of an attribute.

    Attributes:
        name: the value, as attribute columns hold it.
        shop: how titles and features say it; the first one is the plainest.
        lay: how reviewers say it.
    """

    name: str
    shop: tuple[str, ...]
    lay: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of product: where it stands in the shop, what it is called, what it can be like."""

    name: str
    department: str
    category: str
    nouns: tuple[str, ...]
    lay: tuple[str, ...]
    textures: tuple[str, ...]
    shape: str


DEPARTMENTS = ("Hair Care", "Skin Care", "Makeup", "Bath & Body")

KINDS = (
    Kind(
        "shampoo",
        "Hair Care",
        "Shampoos",
        ("Shampoo", "Cleansing Shampoo"),
        ("shampoo", "wash", "hair wash"),
        ("gel", "cream", "foam"),
        "bottle",
    ),
    Kind(
        "conditioner",
        "Hair Care",
        "Conditioners",
        ("Conditioner", "Daily Conditioner"),
        ("conditioner", "rinse", "detangler"),
        ("cream", "lotion", "balm"),
        "bottle",
    ),
    Kind(
        "hair mask",
        "Hair Care",
        "Hair Masks",
        ("Hair Mask", "Deep Treatment"),
        ("mask", "treatment", "hair mask"),
        ("cream", "balm", "oil"),
        "jar",
    ),
    Kind(
        "styling spray",
        "Hair Care",
        "Styling Products",
        ("Styling Spray", "Texturizing Mist"),
        ("spray", "mist", "styler"),
        ("spray", "foam", "gel"),
        "spray",
    ),
    Kind(
        "face cleanser",
        "Skin Care",
        "Cleansers",
        ("Face Wash", "Facial Cleanser"),
        ("cleanser", "face wash", "face soap"),
        ("gel", "foam", "cream", "oil"),
        "tube",
    ),
    Kind(
        "moisturizer",
        "Skin Care",
        "Moisturizers",
        ("Moisturizer", "Face Cream"),
        ("moisturizer", "face cream", "day cream"),
        ("cream", "gel", "lotion"),
        "jar",
    ),
    Kind(
        "serum",
        "Skin Care",
        "Serums",
        ("Serum", "Concentrate"),
        ("serum", "drops", "concentrate"),
        ("oil", "gel", "lotion"),
        "dropper",
    ),
    Kind(
        "sunscreen",
        "Skin Care",
        "Sun Protection",
        ("Sunscreen SPF 50", "Sun Shield SPF 30"),
        ("sunscreen", "sunblock", "spf"),
        ("lotion", "spray", "stick", "gel"),
        "tube",
    ),
    Kind(
        "foundation",
        "Makeup",
        "Foundations",
        ("Foundation", "Skin Tint"),
        ("foundation", "base", "tint"),
        ("lotion", "powder", "stick", "cream"),
        "bottle",
    ),
    Kind(
        "lip color",
        "Makeup",
        "Lip Makeup",
        ("Lip Color", "Lipstick"),
        ("lipstick", "lip color", "lippie"),
        ("stick", "balm", "gel"),
        "stick",
    ),
    Kind(
        "mascara",
        "Makeup",
        "Eye Makeup",
        ("Mascara", "Lash Color"),
        ("mascara", "lash stuff", "wand"),
        ("cream", "gel"),
        "stick",
    ),
    Kind(
        "setting powder",
        "Makeup",
        "Face Powders",
        ("Setting Powder", "Finishing Powder"),
        ("powder", "setting powder", "compact"),
        ("powder", "spray"),
        "jar",
    ),
    Kind(
        "body lotion",
        "Bath & Body",
        "Body Lotions",
        ("Body Lotion", "Body Butter"),
        ("lotion", "body cream", "body butter"),
        ("lotion", "cream", "balm", "oil"),
        "bottle",
    ),
    Kind(
        "body wash",
        "Bath & Body",
        "Body Washes",
        ("Body Wash", "Shower Gel"),
        ("body wash", "shower gel", "soap"),
        ("gel", "foam", "oil"),
        "bottle",
    ),
    Kind(
        "deodorant",
        "Bath & Body",
        "Deodorants",
        ("Deodorant", "Natural Deodorant"),
        ("deodorant", "deo", "antiperspirant"),
        ("stick", "spray", "cream"),
        "stick",
    ),
)

CONCERNS: dict[str, tuple[Word, ...]] = {
    "Hair Care": (
        Word("frizz", ("Anti-Frizz", "Frizz Control"), ("frizz", "hair that puffs up", "flyaways")),
        Word("dry hair", ("Moisture Repair", "Hydrating"), ("straw-like hair", "dry brittle ends")),
        Word("dandruff", ("Anti-Dandruff", "Scalp Relief"), ("flakes", "an itchy scalp")),
        Word("thinning", ("Thickening", "Volumizing"), ("thinning hair", "flat limp hair")),
        Word("oily scalp", ("Oil Control", "Clarifying"), ("greasy roots", "an oily scalp")),
        Word("fading color", ("Color Protect", "Color Safe"), ("dye that fades", "brassy color")),
        Word("split ends", ("Strengthening", "Bond Repair"), ("split ends", "breakage")),
        Word("loose curls", ("Curl Defining", "Curl Boost"), ("undefined curls", "lifeless waves")),
    ),
    "Skin Care": (
        Word("acne", ("Blemish Control", "Acne Clearing"), ("breakouts", "pimples", "acne")),
        Word("dry skin", ("Deep Hydration", "Hydrating"), ("dry patches", "tight flaky skin")),
        Word("redness", ("Redness Relief", "Calming"), ("redness", "blotchy cheeks", "rosacea")),
        Word("wrinkles", ("Anti-Aging", "Firming"), ("fine lines", "wrinkles", "crow's feet")),
        Word("dark spots", ("Brightening", "Spot Correcting"), ("dark spots", "sun spots")),
        Word("shine", ("Mattifying", "Oil Free"), ("a shiny forehead", "an oily t-zone")),
        Word("sensitive skin", ("Gentle", "Sensitive Skin"), ("stinging", "skin that reacts")),
        Word("large pores", ("Pore Refining", "Pore Minimizing"), ("big pores", "blackheads")),
    ),
    "Makeup": (
        Word("smudging", ("Smudge Proof", "Transfer Resistant"), ("smearing", "raccoon eyes")),
        Word("dullness", ("Radiant", "Luminous"), ("a tired face", "dull skin")),
        Word("uneven tone", ("Full Coverage", "Even Tone"), ("uneven tone", "scars to hide")),
        Word("fading", ("Long Wear", "24 Hour"), ("makeup that wears off", "touch ups")),
        Word("water", ("Waterproof", "Water Resistant"), ("sweat", "rain and tears")),
        Word("heaviness", ("Weightless", "Barely There"), ("a cakey look", "heavy makeup")),
        Word("flaking", ("Moisturizing", "Conditioning"), ("flaking", "cracked lips")),
        Word("oily look", ("Matte", "Velvet Matte"), ("shine", "looking oily by noon")),
    ),
    "Bath & Body": (
        Word("rough skin", ("Smoothing", "Softening"), ("rough elbows", "bumpy arms")),
        Word("odor", ("Odor Control", "48 Hour Fresh"), ("body odor", "sweat smell")),
        Word("itching", ("Itch Relief", "Soothing"), ("itching", "eczema")),
        Word("ashy skin", ("Intense Moisture", "Hydrating"), ("ashy legs", "dry skin")),
        Word("razor burn", ("After Shave Care", "Razor Relief"), ("razor bumps", "shaving burn")),
        Word("stretch marks", ("Firming", "Skin Elasticity"), ("stretch marks", "loose skin")),
        Word("sore muscles", ("Muscle Ease", "Recovery"), ("sore legs", "stiff muscles")),
        Word("stress", ("Calming", "Relaxing"), ("stress", "trouble winding down")),
    ),
}

TEXTURES = (
    Word("gel", ("Gel", "Lightweight gel"), ("gel", "jelly-like", "light and bouncy")),
    Word("cream", ("Cream", "Rich cream"), ("creamy", "thick and rich", "like whipped cream")),
    Word("foam", ("Foam", "Airy foam"), ("foamy", "airy like mousse", "all lather")),
    Word("oil", ("Oil", "Nourishing oil"), ("oily at first", "silky", "slick")),
    Word("spray", ("Spray", "Fine mist spray"), ("a fine mist", "a spray", "a light spritz")),
    Word("balm", ("Balm", "Melting balm"), ("balmy", "waxy", "melting on contact")),
    Word("powder", ("Powder", "Micro-fine powder"), ("powdery", "dusty", "chalky")),
    Word("lotion", ("Lotion", "Fast-absorbing lotion"), ("thin and runny", "quick to sink in")),
    Word("stick", ("Stick", "Glide-on stick"), ("solid", "like a crayon", "smooth to glide on")),
)

SCENTS = (
    Word("unscented", ("Fragrance Free", "Unscented"), ("barely there", "neutral, not perfumed")),
    Word("lavender", ("Lavender", "Lavender Fields"), ("lavender", "like grandma's garden")),
    Word("coconut", ("Coconut", "Coconut Milk"), ("coconut", "like a beach vacation", "tropical")),
    Word("citrus", ("Citrus", "Lemon Zest"), ("citrus", "lemony", "like orange peel")),
    Word("vanilla", ("Vanilla", "Warm Vanilla"), ("vanilla", "like cake batter", "sugary")),
    Word("rose", ("Rose", "Rose Water"), ("rose", "like fresh flowers", "flowery")),
    Word("mint", ("Peppermint", "Cool Mint"), ("minty", "peppermint", "tingly and cool")),
    Word("sandalwood", ("Sandalwood", "Cedar & Sandalwood"), ("woodsy", "like a forest", "musky")),
    Word("cucumber", ("Cucumber", "Cucumber Melon"), ("cucumber", "fresh and watery")),
    Word("honey", ("Honey", "Honey Almond"), ("honey", "sweet and nutty")),
    Word("cherry", ("Cherry Blossom", "Black Cherry"), ("cherry", "like cherry candy")),
    Word("eucalyptus", ("Eucalyptus", "Eucalyptus Spa"), ("eucalyptus", "like a spa")),
)

INGREDIENTS = (
    Word("argan oil", ("Argan Oil", "Moroccan Argan Oil"), ("argan oil", "argan")),
    Word("tea tree", ("Tea Tree", "Tea Tree Oil"), ("tea tree", "tea tree oil")),
    Word("hyaluronic acid", ("Hyaluronic Acid",), ("hyaluronic acid", "hyaluronic")),
    Word("vitamin c", ("Vitamin C", "20% Vitamin C"), ("vitamin c", "vit c")),
    Word("shea butter", ("Shea Butter", "Raw Shea Butter"), ("shea butter", "shea")),
    Word("aloe", ("Aloe Vera",), ("aloe", "aloe vera")),
    Word("charcoal", ("Activated Charcoal", "Charcoal"), ("charcoal", "black charcoal stuff")),
    Word("keratin", ("Keratin", "Keratin Complex"), ("keratin", "protein")),
    Word("rosehip", ("Rosehip", "Rosehip Seed Oil"), ("rosehip", "rose hip oil")),
    Word("niacinamide", ("Niacinamide", "10% Niacinamide"), ("niacinamide", "b3")),
    Word("collagen", ("Collagen", "Marine Collagen"), ("collagen", "collagen boost")),
    Word("jojoba", ("Jojoba", "Jojoba Oil"), ("jojoba", "jojoba oil")),
    Word("green tea", ("Green Tea", "Matcha Green Tea"), ("green tea", "matcha")),
    Word("oat", ("Colloidal Oatmeal", "Oat Milk"), ("oatmeal", "oats")),
    Word("salicylic acid", ("Salicylic Acid", "2% Salicylic Acid"), ("salicylic acid", "bha")),
    Word("biotin", ("Biotin", "Biotin Complex"), ("biotin", "the vitamins in it")),
)

OCCASIONS = (
    Word("morning", ("morning routine", "every morning"), ("before work", "every morning")),
    Word("night", ("overnight use", "bedtime"), ("before bed", "at night", "while i sleep")),
    Word("travel", ("travel", "on the go"), ("on trips", "in my carry-on", "when i travel")),
    Word("gym", ("active days", "post-workout"), ("after the gym", "after my runs")),
    Word("winter", ("cold weather", "winter"), ("in winter", "when it gets cold")),
    Word("summer", ("hot weather", "summer"), ("all summer", "in the heat", "at the beach")),
    Word("party", ("special occasions", "evening looks"), ("for a wedding", "on date night")),
    Word("everyday", ("everyday use", "daily care"), ("every day", "daily")),
)

AUDIENCES = (
    Word("women", ("for women",), ("my wife", "my sister", "my best friend")),
    Word("men", ("for men",), ("my husband", "my boyfriend", "my dad")),
    Word("teens", ("for teens",), ("my teenage daughter", "my teen son", "my 14 year old")),
    Word("mothers", ("for new moms",), ("a new mom", "my pregnant sister")),
    Word("mature", ("for mature skin & hair",), ("my mom, who is 70", "my grandmother")),
    Word("kids", ("for kids",), ("my toddler", "my little girl", "the kids")),
    Word("everyone", ("for all ages",), ("the whole family", "me and my roommate")),
)

SHADES = (
    Word("red", ("Ruby Red",), ("red", "classic red")),
    Word("nude", ("Nude Beige",), ("nude", "skin colored")),
    Word("coral", ("Coral Sunset",), ("coral", "orangey pink")),
    Word("plum", ("Deep Plum",), ("plum", "purple")),
    Word("brown", ("Mocha Brown",), ("brown", "chocolate")),
    Word("pink", ("Ballet Pink",), ("pink", "baby pink")),
)

TIERS = (
    Word("budget", ("value size", "everyday price"), ("so cheap", "a bargain", "dirt cheap")),
    Word("mid", ("salon quality", "great value"), ("fairly priced", "reasonable")),
    Word("premium", ("luxury formula", "prestige"), ("pricey", "expensive", "a splurge")),
)

HAIR_TYPES = ("straight", "wavy", "curly", "coily")
SKIN_TYPES = ("dry", "oily", "combination", "sensitive", "normal")
AGE_BANDS = ("13-19", "20-29", "30-44", "45-59", "60+")
CLIMATES = ("humid", "dry", "cold", "temperate")
DEVICES = ("phone", "desktop", "tablet")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


BRAND_FIRST = _words(
    "Alba Bryn Cala Dove Elm Fern Glow Haven Iris Juno Kora Lumi Maren Nova Opal Petra Quill Rowan "
    "Sable Terra Una Vela Willow Yara Zuri Birch Coral Delta Ember Flora"
)
BRAND_LAST = _words(
    "Botanics Labs Naturals Apothecary Beauty Organics Republic Studio Essentials House Remedies "
    "Collective Works"
)
LINE_FIRST = _words(
    "Velvet Silk Pure Wild Golden Crystal Misty Midnight Lunar Solar Ocean Desert Alpine Urban "
    "Secret Bright Soft Bare Royal Noble Simple Sacred Lively Quiet Bold Hidden Dewy Cloud Satin "
    "Amber"
)
LINE_LAST = _words(
    "Ritual Bloom Theory Garden Dream Edit Therapy Essence Touch Spirit Affair Story Method "
    "Balance Harmony Craft Habit Muse Charm Kiss Wave Drift Veil Root Dawn Nectar Halo Pulse Haze "
    "Grove"
)
SIZES = ("1 oz", "2 oz", "4 oz", "6.7 oz", "8 oz", "12 oz", "16 oz", "Pack of 2", "Pack of 3")
