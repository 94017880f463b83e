"""Middlebox presets: the clocks of real load balancers, proxies and NATs, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

CutAction = Literal["fin", "rst", "drop", "drop_then_rst"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One middlebox: which fault it is, after how many seconds, and what it then does to the flow."""

    fault: Literal["idle_timeout", "max_lifetime"]
    after_s: float
    action: CutAction
    what: str
    source: str


_WEBSOCKET_ORG = "https://websocket.org/guides/troubleshooting/timeout"

PRESETS: Mapping[str, Preset] = {
    "aws-nlb": Preset(
        fault="idle_timeout",
        after_s=350,
        action="drop_then_rst",
        what="AWS Network Load Balancer: forgets the idle flow, answers the next packet with RST",
        source="https://aws.amazon.com/about-aws/whats-new/2024/09/aws-network-load-balancer-tcp-idle-timeout",
    ),
    "aws-alb": Preset(
        fault="idle_timeout",
        after_s=60,
        action="fin",
        what="AWS Application Load Balancer: closes an idle connection",
        source=_WEBSOCKET_ORG,
    ),
    "nginx": Preset(
        fault="idle_timeout",
        after_s=60,
        action="fin",
        what="nginx proxy_read_timeout, default 60 s",
        source="https://nginx.org/en/docs/http/websocket.html",
    ),
    "heroku": Preset(
        fault="idle_timeout",
        after_s=55,
        action="fin",
        what="Heroku router: rolling 55 s window (H15)",
        source="https://devcenter.heroku.com/articles/http-routing",
    ),
    "azure-lb": Preset(
        fault="idle_timeout",
        after_s=240,
        action="drop",
        what="Azure Load Balancer: silent after 4 min unless TCP reset is enabled",
        source="https://learn.microsoft.com/azure/load-balancer/load-balancer-tcp-reset",
    ),
    "azure-app-service": Preset(
        fault="idle_timeout",
        after_s=230,
        action="fin",
        what="Azure App Service front end: closes after 230 s",
        source=_WEBSOCKET_ORG,
    ),
    "gcp-https-lb": Preset(
        fault="max_lifetime",
        after_s=30,
        action="fin",
        what="Google classic HTTP(S) load balancer: 30 s backend timeout is a total life",
        source="https://gitlab.com/gitlab-org/gitlab/-/issues/284074",
    ),
    "cloudflare": Preset(
        fault="idle_timeout",
        after_s=100,
        action="fin",
        what="Cloudflare: closes after 100 s without data",
        source="https://github.com/buildbot/buildbot/issues/4078",
    ),
    "envoy": Preset(
        fault="idle_timeout",
        after_s=300,
        action="fin",
        what="Envoy stream_idle_timeout, default 5 min",
        source="https://github.com/envoyproxy/envoy/issues/20062",
    ),
    "traefik": Preset(
        fault="idle_timeout",
        after_s=180,
        action="fin",
        what="Traefik idleTimeout, default 180 s",
        source="https://github.com/traefik/traefik/issues/8668",
    ),
    "swarm-ipvs": Preset(
        fault="idle_timeout",
        after_s=900,
        action="drop",
        what="Docker Swarm's IPVS: forgets the flow after 900 s, packets vanish",
        source="https://github.com/moby/moby/issues/31208",
    ),
    "nat-cellular": Preset(
        fault="idle_timeout",
        after_s=30,
        action="drop",
        what="cellular NAT at the short end of 30–120 s",
        source=_WEBSOCKET_ORG,
    ),
    "nat-home": Preset(
        fault="idle_timeout",
        after_s=60,
        action="drop",
        what="home router NAT at the short end of 60–300 s",
        source=_WEBSOCKET_ORG,
    ),
    "aws-apigw-idle": Preset(
        fault="idle_timeout",
        after_s=600,
        action="fin",
        what="AWS API Gateway WebSocket: 10 min idle",
        source="https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html",
    ),
    "aws-apigw-lifetime": Preset(
        fault="max_lifetime",
        after_s=7200,
        action="fin",
        what="AWS API Gateway WebSocket: 2 h in total, however busy",
        source="https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html",
    ),
}
