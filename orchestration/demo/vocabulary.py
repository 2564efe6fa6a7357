"""Constants of the shop: times, names, pages and goods."""

from datetime import UTC, datetime

__all__ = [
    *("ADJECTIVES", "AGENTS", "APP", "AS_OF", "CAMPAIGNS", "CART", "CONFLICT_EVERY"),
    *("COUNTRIES", "DAY", "EVENTS", "FEATURES", "FIRST", "GOODS", "HISTORY_DAYS"),
    *("HOUR", "LAST", "LATE_PER_1024", "MAILBOXES", "MINUTE", "MOVING", "NOUNS"),
    *("PAGE_BODIES", "PAGE_CALLS", "PATHS", "PHONES", "PLACEHOLDERS", "PLACES"),
    *("POSTHOG_PAGES", "PRICING", "REFERRERS", "REQUESTING_BLOCKS"),
    *("RESENT_PER_10_000", "SECOND", "SHOP", "SITE", "SUFFIXES", "TOPICS"),
    *("TRACK_CALLS", "WEBKIT"),
]

AS_OF = (datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC))
"""The two instants of the demo; events begin 60 days before the first."""

PLACEHOLDERS = (
    *("anonymous", "guest", "distinctid", "distinct_id", "id", "not_authenticated"),
    *("email", "undefined", "true", "false", "[object Object]", "NaN", "None", "none"),
    *("null", "0", "-1"),
)
"""Values that broken clients send as ids; listed by PostHog and Segment."""

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
HISTORY_DAYS = 60
LATE_PER_1024 = 40  # of track and page calls
RESENT_PER_10_000 = 100
REQUESTING_BLOCKS = 25  # of 2,000 events; later ones send no requests over HTTP
# Variants that change an audience; the first block has all, later ones every third.
MOVING = {
    *("onboard", "upgrade", "order", "activate", "back", "downgrade", "deny", "switch"),
    *("join", "lowered", "raised", "cross", "gain"),
}
CONFLICT_EVERY = 50  # resent lines: 1 % of 1 / 50 is 0.02 % of all events

# Ranges that the French and Australian regulators are believed to reserve for fiction,
# so that no number is a real person's. A test checks that they are well formed.
PHONES = (
    *("+3319900", "+3326191", "+3335301", "+3346571", "+3353649"),
    *("+6125550", "+6127010", "+6135550", "+6137010"),
    *("+6175550", "+6177010", "+6185550", "+6187010"),
)

FIRST, LAST, ADJECTIVES, NOUNS = (
    words.split()
    for words in (
        """jane omar lena noah mia ivan sara ben ada liam zoe karl nina paul ruth
        hugo ella finn vera tom uma leo ines max rosa emil cora dan yara otto lucy
        raj kim""",
        """roth silva kaya brandt moreau okafor novak lind hansen costa weber tanaka
        singh dubois keller nilsen ortega byrne petrov schmidt adeyemi larsen quinn""",
        """bright silver north green iron blue amber swift quiet solid clear grand east
        urban early royal lunar prime noble rapid stone south vivid wild calm deep""",
        """water field harbor works bridge forge leaf peak stream grove point mill ridge
        anchor cedar falcon summit meadow river tower garden orbit valley beacon""",
    )
)
SUFFIXES = ("inc", "labs", "gmbh", "ltd", "group", "co")
MAILBOXES = ("info", "sales", "support", "hello", "office")

SITE = "https://www.loomshop.example"
PATHS = (
    ("/", "Loomshop - tools for teams"),
    ("/pricing", "Pricing"),
    ("/features", "Features"),
    ("/blog/identity-graphs", "How identity graphs work"),
    ("/docs/getting-started", "Getting started"),
    ("/shop", "Shop"),
    ("/cart", "Your cart"),
    ("/app/dashboard", "Dashboard"),
    ("/app/reports", "Reports"),
    ("/customers", "Customer stories"),
)
PRICING, SHOP, CART, APP = 1, 5, 6, 7
REFERRERS = ("", "https://www.google.com/", SITE + "/", "https://news.example/weekly")
WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/135.0.0.0"
AGENTS = (
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:137.0) Gecko/20100101 Firefox/137.0",
    f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 15; Pixel 9) {WEBKIT} Mobile Safari/537.36",
)
PLACES = (
    ("en-US", "America/New_York"),
    ("de-DE", "Europe/Berlin"),
    ("fr-FR", "Europe/Paris"),
    ("en-AU", "Australia/Sydney"),
)
CAMPAIGNS = ("spring_sale", "brand_search", "retargeting", "partner_news")

# Pieces by (path, referrer): properties of a page call, context.page, PostHog's names.
PAGE_BODIES = [
    [
        f'"path":"{path}","referrer":"{ref}","search":"","title":"{title}",'
        f'"url":"{SITE}{path}"'
        for ref in REFERRERS
    ]
    for path, title in PATHS
]
PAGE_CALLS = [f'"type":"page","name":"{title}"' for _, title in PATHS]
POSTHOG_PAGES = [
    [
        f'"$current_url":"{SITE}{path}","$host":"www.loomshop.example","$pathname":'
        f'"{path}","$referrer":"{ref or "$direct"}","title":"{title}"'
        for ref in REFERRERS
    ]
    for path, title in PATHS
]

EVENTS = {
    name.lower().replace(" ", "_"): name
    for name in (
        *("Viewed Pricing", "Signed Up", "Completed Onboarding", "Order Completed"),
        *("Product Viewed", "Cart Updated", "Trial Started", "Invited Teammate"),
        *("Plan Changed", "Support Ticket Opened", "Feature Used"),
    )
}
TRACK_CALLS = {
    event: f'"type":"track","event":"{text}"' for event, text in EVENTS.items()
} | {"VIEWED_PRICING": '"type":"track","event":"viewed_pricing"'}
FEATURES = ("report_builder", "csv_export", "audience_preview", "api_call", "alerts")
COUNTRIES = ("DE", "FR", "US", "AU", "JP", "KE")
TOPICS = ("billing", "login", "import", "performance")
GOODS = [
    (
        f"p_{number:03d}",
        (
            f'"product_id":"p_{number:03d}","sku":"LS-{number:04d}","name":"{name}",'
            f'"category":"{category}","currency":"EUR"'
        ),
        f"{9 + number * 7}.90",
    )
    for number, (name, category) in enumerate(
        (f"{material} {thing}", category)
        for material in ("Oak", "Linen", "Steel", "Glass")
        for thing, category in (
            *(("desk", "furniture"), ("lamp", "light"), ("board", "office")),
            *(("stand", "office"), ("mug", "kitchen"), ("frame", "decor")),
        )
    )
]
