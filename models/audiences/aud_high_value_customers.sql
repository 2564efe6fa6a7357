-- People with at least two orders of 100 or more in a month.
{{ audience(all_of=[
    event_count('order_completed', at_least=2, within_days=30,
                where={'total': {'at_least': 100}}),
]) }}
