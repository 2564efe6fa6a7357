-- People who started a trial in the last two weeks and have not used the product yet.
{{ audience(all_of=[
    event_count('trial_started', within_days=14),
    did_not('feature_used'),
]) }}
