-- Free-plan people who keep returning to the price page and never finished onboarding.
{{ audience(all_of=[
    event_count('viewed_pricing', at_least=2, within_days=30),
    trait('plan', equals='free'),
    did_not('completed_onboarding'),
]) }}
