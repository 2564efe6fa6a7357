{{ config(alias='receipts') }}

{{ raw_stream('receipts') }}
