"""What the simulated shop is like: its people's habits, its products, its vocabulary. Numbers here are the plan."""

from dataclasses import dataclass

#: Milliseconds of a minute, an hour and a day.
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

WEB, IOS, ANDROID = range(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archetype:
    """A planted cluster: people with the same habits. Visits are per day, hours are UTC."""

    name: str
    share: float  # of all people
    weekday_visits: float
    weekend_visits: float
    hours: tuple[tuple[float, float, float], ...]  # weight, mean hour, standard deviation
    mobile_share: float
    pages: float  # means of the counts in one visit
    searches: float
    views: float
    order_probability: float
    basket_lines: float
    top_quantity: int
    priciness: float  # 0: cheap products first, 1: expensive ones first
    premium_uses: float  # per visit of a subscriber
    trial_probability: float  # that somebody without a subscription tries the premium feature in a visit
    subscribed_share: float
    onboarded_share: float
    second_kind_share: float  # who owns both a computer and a phone
    channels: tuple[float, ...]  # weights of CHANNELS


NIGHT, LUNCH, POWER, BARGAIN, DORMANT, PROSPECT = range(6)

ARCHETYPES = (
    Archetype(
        name="night_shoppers", share=0.18, weekday_visits=0.62, weekend_visits=0.5, hours=((1.0, 0.6, 1.2),),
        mobile_share=0.96, pages=1.2, searches=0.3, views=2.2, order_probability=0.30, basket_lines=3.4,
        top_quantity=3, priciness=0.9, premium_uses=0.2, trial_probability=0.01, subscribed_share=0.08,
        onboarded_share=0.75, second_kind_share=0.4, channels=(6, 1, 1, 0, 3, 1),
    ),
    Archetype(
        name="lunch_browsers", share=0.28, weekday_visits=1.0, weekend_visits=0.08, hours=((1.0, 12.6, 0.5),),
        mobile_share=0.08, pages=2.2, searches=0.3, views=2.8, order_probability=0.03, basket_lines=1.0,
        top_quantity=1, priciness=0.4, premium_uses=0.2, trial_probability=0.03, subscribed_share=0.06,
        onboarded_share=0.8, second_kind_share=0.5, channels=(6, 4, 0, 1, 0, 1),
    ),
    Archetype(
        name="power_users", share=0.14, weekday_visits=3.3, weekend_visits=1.7,
        hours=((0.35, 8.5, 1.2), (0.3, 13.5, 1.6), (0.35, 19.0, 1.6)),
        mobile_share=0.4, pages=0.9, searches=0.15, views=0.5, order_probability=0.04, basket_lines=1.3,
        top_quantity=1, priciness=0.5, premium_uses=1.5, trial_probability=0.5, subscribed_share=0.92,
        onboarded_share=0.97, second_kind_share=0.9, channels=(9, 0, 0, 1, 0, 0),
    ),
    Archetype(
        name="bargain_hunters", share=0.20, weekday_visits=0.12, weekend_visits=1.1, hours=((1.0, 15.0, 2.2),),
        mobile_share=0.35, pages=1.4, searches=2.4, views=2.6, order_probability=0.16, basket_lines=1.6,
        top_quantity=2, priciness=0.05, premium_uses=0.1, trial_probability=0.005, subscribed_share=0.02,
        onboarded_share=0.6, second_kind_share=0.6, channels=(1, 2, 5, 4, 0, 1),
    ),
    Archetype(
        name="dormant", share=0.12, weekday_visits=0.05, weekend_visits=0.05, hours=((1.0, 18.0, 3.0),),
        mobile_share=0.5, pages=1.0, searches=0.2, views=0.8, order_probability=0.02, basket_lines=1.0,
        top_quantity=1, priciness=0.4, premium_uses=0.0, trial_probability=0.0, subscribed_share=0.02,
        onboarded_share=0.4, second_kind_share=0.3, channels=(2, 1, 1, 6, 1, 0),
    ),
    Archetype(
        name="anonymous_visitors", share=0.08, weekday_visits=0.22, weekend_visits=0.28, hours=((1.0, 17.0, 3.5),),
        mobile_share=0.5, pages=1.6, searches=0.6, views=1.6, order_probability=0.0, basket_lines=1.0,
        top_quantity=1, priciness=0.4, premium_uses=0.0, trial_probability=0.0, subscribed_share=0.0,
        onboarded_share=0.0, second_kind_share=0.15, channels=(2, 5, 3, 0, 1, 3),
    ),
)  # fmt: skip

#: How a visit came about. The first is a direct one, without a campaign.
CHANNELS: tuple[dict[str, str] | None, ...] = (
    None,
    {"source": "search", "medium": "organic", "name": "organic"},
    {"source": "search-ads", "medium": "cpc", "name": "always-on"},
    {"source": "newsletter", "medium": "email", "name": "weekly"},
    {"source": "photo-app", "medium": "social", "name": "creators"},
    {"source": "blogs", "medium": "referral", "name": "partners"},
)

COUNTRIES = (("US", 0.62), ("CA", 0.12), ("GB", 0.12), ("DE", 0.08), ("FR", 0.06))
LOCALES = {"US": "en-US", "CA": "en-CA", "GB": "en-GB", "DE": "de-DE", "FR": "fr-FR"}

SIGN_IN_METHODS = ("email", "google", "apple")
PREMIUM_PRICE = 12.0
FEATURES = ("price_alerts", "wish_list_sync", "style_advisor", "early_access")
QUERIES = (
    "lamp", "desk", "rain jacket", "sale", "coffee", "backpack", "wool socks", "tent", "gift for dad", "headphones",
    "rug 160x230", "kettle", "running shoes", "plant pot", "notebook", "bike light", "pillow", "discount", "mug",
    "scarf",
)  # fmt: skip
CANCEL_REASONS = ("too expensive", "not used enough", "missing a feature", "switched to another shop")

_CATEGORIES = ("lighting", "kitchen", "outdoor", "clothing", "office", "audio", "home", "garden")

#: product_id, category, price in USD; ascending by price.
PRODUCTS = tuple(
    sorted(
        (
            (f"sku-{number:03d}", _CATEGORIES[number % len(_CATEGORIES)], round(4.9 + 1.9 * number**1.02, 2))
            for number in range(64)
        ),
        key=lambda product: product[2],
    )
)

#: name, path, title
PAGES = (
    ("Home", "/", "Segue Shop"),
    ("Category", "/category", "Our range"),
    ("Product", "/product", "Product"),
    ("Basket", "/basket", "Your basket"),
    ("Account", "/account", "Your account"),
    ("Pricing", "/pricing", "Plans and prices"),
    ("Help", "/help", "Help"),
)
PAGE_WEIGHTS = (0.25, 0.3, 0.2, 0.05, 0.08, 0.05, 0.07)

#: device.type, device.model, os.name, os.version
MODELS = {
    WEB: (
        ("desktop", "Chrome", "Windows", "11"),
        ("desktop", "Firefox", "Linux", "6.8"),
        ("desktop", "Safari", "macOS", "15.2"),
    ),
    IOS: (
        ("ios", "iPhone16,1", "iOS", "18.2"),
        ("ios", "iPhone14,5", "iOS", "17.6"),
        ("ios", "iPad13,4", "iPadOS", "18.1"),
    ),
    ANDROID: (
        ("android", "Pixel 8", "Android", "15"),
        ("android", "SM-S921B", "Android", "14"),
        ("android", "CPH2581", "Android", "14"),
    ),
}
LIBRARIES = {
    WEB: ("analytics.js", "2.11.1"),
    IOS: ("analytics-swift", "1.5.11"),
    ANDROID: ("analytics-kotlin", "1.16.3"),
}

FIRST_NAMES = (
    "Ada", "Bruno", "Clara", "Dario", "Elif", "Femi", "Greta", "Hugo", "Ines", "Jonas", "Kaori", "Liam", "Mara", "Nils",
    "Olga", "Pablo", "Quinn", "Rosa", "Sven", "Tara", "Umar", "Vera", "Wim", "Xenia", "Yann", "Zoe",
)  # fmt: skip
LAST_NAMES = (
    "Abel", "Berg", "Costa", "Dahl", "Egger", "Fonseca", "Gruber", "Hale", "Ito", "Jansen", "Keller", "Lund", "Moreau",
    "Novak", "Okafor", "Petit", "Quist", "Rossi", "Sato", "Tran", "Ueda", "Vidal", "Weber", "Young", "Zimmer",
)  # fmt: skip

# ── Delivery ────────────────────────────────────────────────────────────────────────────────────────────────────
OFFLINE_SHARE = 0.05  # of visits on a phone
OFFLINE_HOURS = (6.0, 71.0)  # how long their messages are held back
WRONG_CLOCK_SHARE = 0.04  # of devices
DUPLICATE_SHARE = 0.006  # of messages
DUPLICATE_LATER_SHARE = 0.4  # of duplicates: sent once more a good while later, so in a later file as a rule
BROKEN_SHARE = 0.003
BROKEN_SIGN_IN_SHARE = 0.01

# ── Disturbed days ──────────────────────────────────────────────────────────────────────────────────────────────
HOLIDAY_VISITS = 0.5  # times as many visits as on another day
PROMOTION_VISITS = 1.5
PROMOTION_ORDERS = 5.0  # times the probability of an order, up to 0.9
OUTAGE_SHARE = 0.82  # of the visits of the day: what was sent from them was lost
