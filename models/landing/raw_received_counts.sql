{{ config(alias='received_counts') }}

{{ raw_stream('received_counts') }}
