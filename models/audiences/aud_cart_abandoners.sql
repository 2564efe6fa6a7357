-- People who filled a cart in the last few days and have not ordered since.
{{ audience(all_of=[
    event_count('cart_updated', within_days=3),
    did_not('order_completed', within_days=3),
]) }}
