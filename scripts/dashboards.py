"""The Grafana dashboards: ``python scripts/dashboards.py`` writes deploy/grafana/dashboards/*.json.

A test holds the files to this, and asks a real Prometheus every query in them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import (
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER = Path(__file__).parents[1] / "deploy" / "grafana" / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

STATUSES = ("ok", "unknown", "degraded", "unreachable", "blocked")
"""In the order of their numbers here, which begin at 1."""
_COLOURS = ("green", "#808080", "yellow", "orange", "red")
VANTAGES = ("online", "restricted", "portal", "tunnelled", "offline", "faulty")
_VANTAGE_COLOURS = ("green", "yellow", "orange", "purple", "red", "red")


def numbered(metric: str, label: str, words: tuple[str, ...], where: str) -> str:
    """One series whose value says which of ``words`` holds; the metric is 1 for that one."""
    each = (
        f'({metric}{{{label}="{word}"{where}}} == 1) * {number}'
        for number, word in enumerate(words, 1)
    )
    return f"max without ({label}) ({' or '.join(each)})"


def query(expression: str, legend: str = "", *, instant: bool = False) -> Any:
    made = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id("A")
    return made.instant().format(PromQueryFormat.TABLE) if instant else made


def mapped(words: tuple[str, ...], colours: tuple[str, ...]) -> list[Any]:
    results = {
        str(number): ValueMappingResult(text=word, color=colour, index=number)
        for number, (word, colour) in enumerate(zip(words, colours, strict=True), 1)
    }
    return [ValueMap(options=results)]


def timeline(title: str, text: str, expression: str, legend: str, **words: Any) -> Any:
    return (
        statetimeline.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .mappings(mapped(words.get("words", STATUSES), words.get("colours", _COLOURS)))
        .with_target(query(expression, legend))
        .span(24)
        .height(words.get("height", 9))
    )


def graph(title: str, text: str, unit: str, *targets: tuple[str, str], span: int = 12) -> Any:
    made = timeseries.Panel().title(title).description(text).datasource(SOURCE).unit(unit)
    for letter, (expression, legend) in zip("ABCD", targets, strict=False):
        made = made.with_target(query(expression, legend).ref_id(letter))
    return made.span(span).height(8)


def number(title: str, text: str, unit: str, expression: str) -> Any:
    made = stat.Panel().title(title).description(text).datasource(SOURCE).unit(unit)
    return made.with_target(query(expression)).span(6).height(5)


def rows(title: str, text: str, expression: str, *, span: int = 24) -> Any:
    made = table.Panel().title(title).description(text).datasource(SOURCE)
    return made.with_target(query(expression, instant=True)).span(span).height(9)


def board(uid: str, title: str, *variables: tuple[str, str], panels: list[Any]) -> Any:
    """``variables``: names, and the metric whose label of that name they are."""
    made = (
        dashboard.Dashboard(f"callpath: {title}")
        .uid(f"callpath-{uid}")
        .tags(["callpath"])
        .time("now-24h", "now")
        .refresh("30s")
        .timezone("browser")
        .readonly()
        .link(
            dashboard.DashboardLink("callpath")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["callpath"])
            .as_dropdown(True)
            .keep_time(True)
            .include_vars(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
    )
    for name, metric in variables:
        made = made.with_variable(
            dashboard.QueryVariable(name)
            .datasource(SOURCE)
            .query(f"label_values({metric}, {name})")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    for panel in panels:
        made = made.with_panel(panel)
    return made.build()


HERE = ', instance=~"$instance"'
OF = f'messenger=~"$messenger"{HERE}'
CALLS = "channel:callpath_channel_status:max"
MESSENGER = ("messenger", "callpath_channel_status")
INSTANCE = ("instance", "callpath_build_info")


def fleet() -> Any:
    down = 'status=~"blocked|unreachable"'
    call = f'{CALLS}{{channel="call", {down}}} == 1'
    statuses = numbered(CALLS, "status", STATUSES, ', channel="call", messenger=~"$messenger"')
    return board(
        "fleet",
        "fleet",
        MESSENGER,
        panels=[
            number("Vantages", "Agents that report.", "short",
                   "count(vantage:callpath_vantage_info:max)"),
            number("Online", "Vantages whose line is well.", "short",
                   'sum(vantage:callpath_vantage_status:max{status="online"})'),
            number("Calls down at", "Vantages where calls of some messenger are dead.", "short",
                   f"count(max by (vantage) ({call})) or vector(0)"),
            number("Interfered with at", "Vantages with a likely finding about calls.", "short",
                   "count(max by (vantage) (channel:callpath_channel_interference:max == 1))"
                   " or vector(0)"),
            timeline("Can I call?", "The call channel at every vantage.", statuses,
                     "{{vantage}} {{messenger}}", height=12),
            timeline("Vantages", "What the controls say of each line.",
                     numbered("vantage:callpath_vantage_status:max", "status", VANTAGES, ""),
                     "{{vantage}}", words=VANTAGES, colours=_VANTAGE_COLOURS),
            graph("Vantages by status of their calls", "How many see what.", "short",
                  (f'sum by (messenger, status) ({CALLS}{{channel="call"}})',
                   "{{messenger}} {{status}}"), span=24),
        ],
    )  # fmt: skip


def vantage() -> Any:
    skipped = "sum by (reason) (increase({}{{" + HERE[2:] + "}}[$__rate_interval]))"
    return board(
        "vantage",
        "one vantage",
        INSTANCE,
        MESSENGER,
        panels=[
            timeline("Can I call?", "Every channel; docs/statuses.md says what the words mean.",
                     numbered("callpath_channel_status", "status", STATUSES,
                              f", {OF}"), "{{messenger}} {{channel}}", height=11),
            timeline("This line", "What the controls say of it.",
                     numbered("callpath_vantage_status", "status", VANTAGES, HERE),
                     "{{instance}}", words=VANTAGES, colours=_VANTAGE_COLOURS, height=4),
            graph("Targets that work", "Of those that decide.", "percentunit",
                  (f"callpath_channel_working_targets{{{OF}}}"
                   f" / (callpath_channel_deciding_targets{{{OF}}} > 0)",
                   "{{messenger}} {{channel}}")),
            graph("Round trips", "Timed by the kernel, the median of each messenger.", "s",
                  (f"quantile by (messenger, channel) (0.5, callpath_rtt_seconds{{{OF}}})",
                   "{{messenger}} {{channel}}")),
            graph("Failures", "By step and word: docs/failures.md.", "short",
                  ("sum by (messenger, step, failure)"
                   f" (increase(callpath_check_failures_total{{{OF}}}[$__rate_interval]))",
                   "{{messenger}} {{step}} {{failure}}")),
            graph("Steps", "What each step takes.", "s",
                  (f"quantile by (step) (0.9, callpath_check_step_seconds{{{OF}}})", "{{step}}")),
            graph("Not measured", "Checks and contrasts that manners or budgets left out.", "short",
                  (skipped.format("callpath_checks_skipped_total"), "check: {{reason}}"),
                  (skipped.format("callpath_contrasts_skipped_total"), "contrast: {{reason}}")),
            graph("Traffic", "Both directions, against the budget of a day.", "bytes",
                  ("increase(callpath_sent_bytes_total{" + HERE[2:] + "}[1h])", "sent in an hour"),
                  ("increase(callpath_received_bytes_total{" + HERE[2:] + "}[1h])",
                   "received in an hour"),
                  ("callpath_budget_bytes{" + HERE[2:] + "} / 24", "an hour's share")),
            graph("How late rounds start", "Beyond a second this host is overloaded.", "s",
                  ("histogram_quantile(0.99, sum by (le) (rate("
                   "callpath_schedule_lag_seconds_bucket{" + HERE[2:] + "}[$__rate_interval])))",
                   "p99"), span=24),
        ],
    )  # fmt: skip


def quality() -> Any:
    of = f'messenger=~"$messenger|control"{HERE}'
    legend = "{{messenger}} {{target}} {{stream}}"

    def stream(title: str, text: str, unit: str, metric: str) -> Any:
        return graph(title, text, unit, (f"callpath_media_{metric}{{{of}}}", legend))

    return board(
        "quality",
        "call quality",
        INSTANCE,
        MESSENGER,
        panels=[
            graph("Voices (MOS)", "Estimated by G.107: 4.3 is clear, below 3.6 people complain.",
                  "none", (f'callpath_media_mos{{profile="opus", {of}}}', legend), span=24),
            stream("Lost", "Packets that were not answered.", "percentunit", "loss_ratio"),
            stream("Late", "Too late for a jitter buffer of 60 ms.", "percentunit", "late_ratio"),
            stream("Jitter", "RFC 3550, of the round trip.", "s", "jitter_seconds"),
            stream("Longest gap", "Without an answer.", "s", "longest_gap_seconds"),
            stream("Out of order", "RFC 4737.", "percentunit", "reordered_ratio"),
            stream("Sent late", "By this host: beyond 20 ms it is not the network.", "s",
                   "send_lateness_seconds"),
            graph("Round trips of packets", "All answered packets of the streams.", "s",
                  *((f"histogram_quantile({q}, sum by (le, stream) (rate("
                     f"callpath_media_rtt_distribution_seconds_bucket{{{of}}}[$__rate_interval])))",
                     f"{{{{stream}}}} p{round(100 * q)}") for q in (0.5, 0.95)), span=24),
        ],
    )  # fmt: skip


def evidence() -> Any:
    return board(
        "evidence",
        "evidence",
        INSTANCE,
        MESSENGER,
        panels=[
            rows("What is done to the traffic", "The first finding of each channel.",
                 f"callpath_channel_mechanism{{{OF}}} == 1"),
            graph("How sure", "Confidence of the first finding; likely is 0.75.", "percentunit",
                  (f"callpath_channel_confidence_ratio{{{OF}}}", "{{messenger}} {{channel}}")),
            graph("Interference", "1 while a rule at likely or better names it.", "short",
                  (f"callpath_channel_interference{{{OF}}}", "{{messenger}} {{channel}}")),
            rows("Where on the path", "The hops between which packets die: docs/trace.md.",
                 f"callpath_interference_hop{{{OF}}}", span=12),
            rows("Failing targets", "Those that did not work when last asked.",
                 f"callpath_check_success{{{OF}}} == 0", span=12),
            graph("Success", "Share of the last 20 rounds.", "percentunit",
                  (f"callpath_channel_success_ratio{{{OF}}}", "{{messenger}} {{channel}}")),
            rows("Known to answer strangers", "0: its silence proves nothing yet.",
                 f"callpath_target_proven{{{OF}}}", span=12),
            rows("Versions", "Rules and catalogue that judged.",
                 "callpath_build_info{" + HERE[2:] + "}"),
        ],
    )  # fmt: skip


BOARDS = {"fleet": fleet, "vantage": vantage, "quality": quality, "evidence": evidence}


def written(name: str) -> str:
    return json.dumps(BOARDS[name](), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in BOARDS:
        (FOLDER / f"{name}.json").write_text(written(name))


if __name__ == "__main__":
    main()
