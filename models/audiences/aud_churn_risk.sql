-- Paying people who once used the product or ordered, but were not seen for two weeks.
{{ audience(
    all_of=[
        trait('plan', one_of=['growth', 'scale']),
        any_of([event_count('order_completed'), event_count('feature_used')]),
    ],
    none_of=[
        event_count('page', within_days=14),
        event_count('feature_used', within_days=14),
    ],
) }}
