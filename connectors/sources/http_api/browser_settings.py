"""Settings that browser SDKs load before sending; without them some send nothing.

They turn off everything a collector does not do; each is the minimum the recorded SDK
versions work with.
"""

import msgspec

from connectors.sources.http_api.answers import Answer, json_answer
from connectors.sources.write_keys import WriteKey

__all__ = ["posthog_config", "posthog_flags", "rudder_settings", "segment_settings"]


def segment_settings(key_text: str) -> Answer:
    """Answer `GET /v1/projects/<key>/settings` of analytics.js."""
    return json_answer(
        {
            "integrations": {"Segment.io": {"apiKey": key_text}},
            "plan": {"track": {"__default": {"enabled": True, "integrations": {}}}},
            "edgeFunction": {},
            "middlewareSettings": {"routingRules": []},
            "enabledMiddleware": {},
            "metrics": {"sampleRate": 0},
            "legacyVideoPluginsEnabled": False,
            "remotePlugins": [],
        }
    )


def rudder_settings(key_text: str, key: WriteKey) -> Answer:
    """Answer `GET /sourceConfig/` of RudderStack's JavaScript SDK."""
    return json_answer(
        {
            "source": {
                "id": key.id,
                "name": key.name,
                "writeKey": key_text,
                "enabled": True,
                "workspaceId": "loomline",
                "config": {
                    "statsCollection": {
                        "errors": {"enabled": False},
                        "metrics": {"enabled": False},
                    }
                },
                "destinations": [],
                "connections": [],
                "dataplanes": {},
            }
        }
    )


def posthog_config(key_text: str, *, as_script: bool) -> Answer:
    """Answer `GET /array/<key>/config` and `config.js` of posthog-js."""
    config = {
        "token": key_text,
        "supportedCompression": ["gzip", "gzip-js"],
        "hasFeatureFlags": False,
        "captureDeadClicks": False,
        "capturePerformance": False,
        "autocapture_opt_out": False,
        "autocaptureExceptions": False,
        "analytics": {"endpoint": "/i/v0/e/"},
        "elementsChainAsString": True,
        "sessionRecording": False,
        "heatmaps": False,
        "surveys": False,
        "siteApps": [],
        "isAuthenticated": False,
        "defaultIdentifiedOnly": True,
    }
    if not as_script:
        return json_answer(config)
    name = msgspec.json.encode(key_text).decode().replace("<", "\\u003c")
    inner = msgspec.json.encode({"config": config, "siteApps": []}).decode()
    script = (
        "(function(){var all=window._POSTHOG_REMOTE_CONFIG="
        "window._POSTHOG_REMOTE_CONFIG||{};"
        f"all[{name}]={inner.replace('<', chr(92) + 'u003c')}}})();"
    )
    return Answer(200, script.encode(), [(b"content-type", b"text/javascript")])


def posthog_flags() -> Answer:
    """Answer `POST /flags/` and its older name `/decide/`: no feature flags."""
    return json_answer(
        {
            "flags": {},
            "featureFlags": {},
            "featureFlagPayloads": {},
            "errorsWhileComputingFlags": False,
            "config": {"enable_collect_everything": True},
            "supportedCompression": ["gzip", "gzip-js"],
            "sessionRecording": False,
        }
    )
