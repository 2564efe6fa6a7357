-- People in companies on the enterprise plan.
{{ audience(all_of=[in_group('company', traits={'plan': 'enterprise'})]) }}
