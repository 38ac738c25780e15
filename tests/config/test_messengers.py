"""Messenger and controls files: targets, identity, replacement, controls and their packs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from textwrap import indent
from typing import ClassVar, Literal

import pytest

from config.effective import effective
from config.loader import load
from config.schema import controls_model, messenger_model
from probes.model import Channel, Family, Proof, Role, Target
from probes.wire.certificate import read_anchors
from tests.probes.certificates import Authority

SOURCES = 'sources: [{url: "https://example.org/list", read: 2026-11-20}]\n'


LIST = 'url: "https://a.example/list"'


def tcp(name: str = "a", more: str = "") -> str:
    return f"{{name: {name}, channel: chat, probe: tcp, host: a.example, port: 443{more}}}"


def https(url: str, more: str = "") -> str:
    return f'{{name: a, channel: web, probe: https, url: "{url}"{more}}}'


def dns(resolver: str) -> str:
    return f'{{name: a, channel: web, probe: dns, query: a.example, resolver: "{resolver}"}}'


@pytest.mark.parametrize(
    ("target", "key", "message"),
    [
        ("{channel: chat, probe: tcp, host: a.example, port: 443}", "name", "is required"),
        ("{name: a, channel: chat, host: a.example, port: 443}", "probe", "is required"),
        ("{name: a, probe: tcp, host: a.example, port: 443}", "channel", "is required"),
        ("{name: a, channel: chat, probe: tcp, port: 443}", "host", "is required"),
        ("{name: a, channel: chat, probe: tcp, host: a.example}", "port", "is required"),
        ("{name: a, channel: web, probe: https}", "url", "is required"),
        ("{name: a, channel: web, probe: https, url: }", "url", "has no value"),
        ("{name: a, channel: web, probe: dns}", "query", "is required"),
        ("{name: a, channel: chat, probe: tpc, host: a.example, port: 443}", "probe", "mean tcp?"),
        ("{name: a, channel: chat, probe: 5}", "probe", "must be one of"),
        ("{name: A, channel: chat, probe: tcp, host: a.example, port: 443}", "name", "pattern"),
        ("{name: a, channel: voice, probe: tcp, host: a.example, port: 443}", "channel", "'chat'"),
        (tcp(more=", prot: 5"), "prot", "mean port?"),
        (tcp(more=", dress: bare"), "dress", "not a known key"),
        (tcp(more=", url: x"), "url", "not a known key"),
        (tcp(more=", role: foreign"), "role", "not a known key"),
        (tcp(more=", proof: certain"), "proof", "'documented'"),
        (tcp(more=", family: ipv5"), "family", "'any'"),
        (tcp(more=", timeout: 0"), "timeout", "greater than 0"),
        (tcp(more=", timeout: 2m"), "timeout", "less than or equal to 60"),
        (tcp(more=", interval: 30s"), "interval", "limits.min_interval"),
        (tcp(more=", informative: 1"), "informative", "boolean"),
        (tcp(more=", address: 192.0.2.1"), "address", "array"),
        (tcp(more=", address: [a.example]"), "address[0]", "IP address"),
        (tcp(more=", address: [192.0.2.1, 192.0.2.1]"), "address", "twice"),
        (tcp(more=", address: [192.0.2.1], family: ipv6"), "address", "no address of family ipv6"),
        ("{name: a, channel: chat, probe: tcp, host: a.example, port: 0}", "port", "greater"),
        ("{name: a, channel: chat, probe: tcp, host: a..b, port: 1}", "host", "host name"),
        (
            "{name: a, channel: chat, probe: tcp, host: 192.0.2.1, port: 1, address: [192.0.2.2]}",
            "address",
            "itself an address",
        ),
        (
            '{name: a, channel: chat, probe: tcp, host: "2001:db8::1", port: 1, family: ipv4}',
            "address",
            "no address of family ipv4",
        ),
        (https("https://192.0.2.1/", ", address: [192.0.2.2]"), "address", "itself an address"),
        (https("ftp://a.example/"), "url", "http"),
        (https("https://a.example/", ", host: a.example"), "host", "not a known key"),
        (https("https://a.example/", ", method: PUT"), "method", "'GET'"),
        (https("https://a.example/", ", expect_status: [999]"), "expect_status[0]", "599"),
        (https("https://a.example/", ", expect_status: 200"), "expect_status", "array"),
        (dns("quad8"), "resolver", "(system, quad9)"),
        (dns("quad9/quic"), "resolver", "not configured for the transport"),
        (dns("quad9/"), "resolver", "not configured for the transport"),
        (dns("system/udp"), "resolver", "must be an address or the name"),
        (dns("9.9.9.9:x"), "resolver", "must be an address or the name"),
        ("{name: a, channel: web, probe: dns, query: a b}", "query", "host name"),
        ("{name: a, channel: web, probe: dns, query: a.b, type: a}", "type", "pattern"),
        ("{name: a, channel: web, probe: dns, query: a.b, port: 5}", "port", "not a known key"),
        (
            "{name: a, channel: call, probe: stun, host: a.b, port: 1, dress: tie}",
            "dress",
            "'bare'",
        ),
        (
            "{name: a, channel: call, probe: stun, host: a.b, port: 1, transport: sctp}",
            "transport",
            "'udp'",
        ),
        (
            "{name: a, channel: chat, probe: tls, host: a.b, port: 1, server_name: -}",
            "server_name",
            "",
        ),
    ],
)
def test_one_mistake_in_a_target(target_mistakes, target: str, key: str, message: str) -> None:
    (found,) = target_mistakes(target)
    assert found[:2] == (6, f"targets[0].{key}")
    assert message in found[2]


@pytest.mark.parametrize(
    "resolver", ["system", "quad9", "quad9/tls", "192.0.2.53", "192.0.2.53:54"]
)
def test_resolvers_of_a_dns_target(target_mistakes, resolver: str) -> None:
    assert target_mistakes(dns(resolver)) == []


def test_two_targets_of_one_name(target_mistakes) -> None:
    found = target_mistakes(tcp("a"), tcp("b"), tcp("a"))
    assert found == [(8, "targets[2].name", "a is already the name of the target in line 6")]


def test_a_name_taken_twice_is_found_beside_other_mistakes(target_mistakes) -> None:
    found = target_mistakes(tcp("a", ", x: 1"), "just text", tcp("a"))
    assert [(line, key) for line, key, _ in found] == [
        (6, "targets[0].x"),
        (7, "targets[1]"),
        (8, "targets[2].name"),
    ]


def test_an_interval_fits_the_limit_that_was_set(target_mistakes) -> None:
    limits = "limits: {min_interval: 1s, fast_prefixes: [0.0.0.0/0, '::/0']}"
    assert target_mistakes(tcp(more=", interval: 30s"), settings=limits) == []


@pytest.mark.parametrize(
    ("head", "key", "message"),
    [
        ("quorum: 0", "quorum", "greater than 0"),
        ("quorum: 1.1", "quorum", "less than or equal to 1"),
        ("owner: {asns: [-1]}", "owner.asns[0]", "greater"),
        ("owner: {prefixes: [10.0.0.1/8]}", "owner.prefixes[0]", "host bits"),
        ("lists: [{url: a.example, form: prefixes}]", "lists[0].url", "http"),
        (f"lists: [{{{LIST}, form: hosts}}]", "lists[0].form", "prefixes"),
        (f"lists: [{{{LIST}, form: proxy_for}}]", "lists[0]", "needs targets"),
        (f"lists: [{{{LIST}, form: prefixes, targets: a}}]", "lists[0]", "needs targets"),
        ("colour: red", "colour", "not a known key"),
        ("role: stun", "role", "not a known key"),
    ],
)
def test_the_head_of_a_messenger_file(target_mistakes, head, key, message) -> None:
    (found,) = target_mistakes(tcp(), head=head)
    assert found[:2] == (4, key)
    assert message in found[2]


@pytest.mark.parametrize(
    ("sources", "key", "message"),
    [
        ("", "sources", "is required"),
        ("sources: []", "sources", "must not be empty"),
        ('sources: [{url: "https://a.example/"}]', "sources[0].read", "is required"),
        ("sources: [{url: a.example, read: 2026-11-20}]", "sources[0].url", "http"),
        ('sources: [{url: "https://a.example/", read: 20.11.2026}]', "sources[0].read", "date"),
        ('sources: [{url: "https://a.example/", read: 2026-13-01}]', "sources[0].read", "date"),
        ('sources: [{url: "https://a.example/", read: 2999-01-01}]', "sources[0].read", "future"),
    ],
)
def test_sources(write, problems, sources: str, key: str, message: str) -> None:
    write("own/s.yaml", f"messenger: signal\ntitle: Signal\n{sources}\ntargets:\n  - {tcp()}\n")
    main = write("callpath.yaml", "messengers: [signal]\nmessenger_dirs: [own]\n")
    (found,) = problems(main)
    assert found.key == key
    assert message in found.message


@pytest.mark.parametrize("read", ["2026-11-20", "'2026-11-20'", '"2026-11-20"'])
def test_a_date_needs_no_quotes(write, read: str) -> None:
    sources = f'sources: [{{url: "https://a.example/", read: {read}}}]'
    write("own/s.yaml", f"messenger: signal\ntitle: Signal\n{sources}\ntargets:\n  - {tcp()}\n")
    main = write("callpath.yaml", "messengers: [signal]\nmessenger_dirs: [own]\n")
    assert load(main).messengers[0].sources[0].read.isoformat() == "2026-11-20"


def test_a_clock_long_before_the_catalogue_does_not_stop_the_agent(monkeypatch) -> None:
    import config.loader as loader

    class Stopped(loader.date):
        @classmethod
        def today(cls) -> loader.date:
            return cls(1970, 1, 1)

    monkeypatch.setattr(loader, "date", Stopped)
    assert load(None).messengers


def own(write, files: dict[str, str], main: str) -> Path:
    for name, text in files.items():
        write(f"own/{name}", text)
    return write("callpath.yaml", f"messenger_dirs: [own]\n{main}\n")


def body(name: str, title: str = "Mine") -> str:
    return f"messenger: {name}\ntitle: {title}\n{SOURCES}targets:\n  - {tcp()}\n"


def test_identity_is_the_value_and_not_the_file_name(write) -> None:
    main = own(write, {"anything.yml": body("signal")}, "messengers: [signal]")
    (messenger,) = load(main).messengers
    assert (messenger.name, messenger.title, messenger.quorum) == ("signal", "Mine", 0.8)
    assert messenger.targets[0].target == Target("signal", "chat", "a", "tcp")


def test_an_own_file_replaces_the_shipped_one(write) -> None:
    main = own(write, {"x.yaml": body("telegram")}, "messengers: [telegram, whatsapp]")
    assert [m.title for m in load(main).messengers] == ["Mine", "WhatsApp"]


def test_only_selected_messengers_need_to_be_right(write, problems) -> None:
    broken = "messenger: signal\ntitel: Signal\n"
    assert problems(own(write, {"s.yaml": broken}, "messengers: [telegram]")) == []
    assert len(problems(own(write, {"s.yaml": broken}, "messengers: [signal]"))) == 4


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: [", 1, "not valid YAML"),
        ("title: x\n", 1, "is required, a short name"),
        ("", 0, "is required, a short name"),
        ("title: x\nmessenger: 5\n", 2, "is required, a short name"),
        ("messenger: control\n", 1, "belongs under the key controls"),
    ],
)
def test_a_file_without_identity_is_a_problem(write, problems, text, line, message) -> None:
    (found,) = problems(own(write, {"s.yaml": text}, "messengers: [telegram]"))
    assert found.line == line
    assert message in found.message


def test_two_files_of_one_identity(write, problems) -> None:
    main = own(write, {"a.yaml": body("signal"), "b.yaml": body("signal")}, "")
    (found,) = problems(main)
    assert (Path(found.file).name, found.line, found.key) == ("b.yaml", 1, "messenger")
    assert "a.yaml" in found.message


def test_hidden_and_other_files_are_not_read(write, problems) -> None:
    assert problems(own(write, {".a.yaml.swp": "[", ".b.yaml": "[", "README.md": "["}, "")) == []


def test_an_unknown_messenger_is_told_the_known_ones(write, problems) -> None:
    (found,) = problems(own(write, {"a.yaml": body("aaa")}, "messengers: [nobody]"))
    assert (found.line, found.key) == (2, "messengers[0]")
    assert "known are: aaa, discord, " in found.message


def test_every_kind_of_target_becomes_what_it_says(write) -> None:
    targets = [
        tcp("tcp", ", address: ['2001:DB8::1'], family: ipv6, timeout: 3s, proof: captured"),
        https(
            "http://[2001:db8::1]/x?y=z", ", method: POST, expect_status: [204], informative: true"
        ),
        "{name: dns, channel: web, probe: dns, query: A.example, interval: 5m}",
        "{name: stun, channel: call, probe: stun, host: 192.0.2.1, port: 1400, dress: rfc3489}",
        "{name: turn, channel: call, probe: turn, host: b.example, port: 3478, realm: r}",
        "{name: dtls, channel: call, probe: dtls, host: b.example, port: 3480, dress: browser}",
        "{name: tls, channel: web, probe: tls, host: b.example, port: 443, alpn: [h2]}",
    ]
    text = f"messenger: signal\ntitle: S\n{SOURCES}targets:\n" + "".join(
        f"  - {t}\n" for t in targets
    )
    main = own(write, {"s.yaml": text}, "messengers: [signal]")
    config = load(main)
    first, url, name, stun, turn, dtls, tls, *streams = config.messengers[0].targets
    assert [t.target.name for t in streams] == ["media-stun", "media-turn"]
    assert first.addresses == ("2001:db8::1",)
    assert (first.host, first.port, first.family) == ("a.example", 443, Family.IPV6)
    assert (first.timeout, first.proof, first.interval) == (3.0, Proof.CAPTURED, None)
    assert (url.host, url.port, url.url) == ("2001:db8::1", 80, "http://[2001:db8::1]/x?y=z")
    assert (url.probe.method, url.probe.expect_status, url.informative) == ("POST", (204,), True)
    assert (name.host, name.port, name.interval) == ("", 0, 300.0)
    assert (name.probe.query, name.probe.type, name.probe.resolver) == (
        "A.example".lower(),
        "A",
        "system",
    )
    assert (stun.probe.dress, stun.probe.transport) == ("rfc3489", "udp")
    assert turn.probe.realm == "r"
    assert dtls.probe.dress == "browser"
    assert tls.probe.alpn == ("h2",)
    assert {t.probe.kind for t in config.messengers[0].targets} == {
        t.target.probe for t in config.messengers[0].targets
    }
    shown = effective(config)["messengers"][0]["targets"]
    assert shown[0]["timeout"] == "3s"
    assert "host" not in shown[1]
    assert "port" not in shown[2]


class Tone(StrEnum):
    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class WhistleProbe:
    kind: ClassVar[str] = "whistle"
    takes: ClassVar[str] = "host"

    tone: Tone
    volume: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        if self.tone == Tone.HIGH and self.volume == 2:
            raise ValueError("is too loud")


@dataclass(frozen=True, slots=True)
class SniffProbe:
    kind: ClassVar[str] = "sniff"
    takes: ClassVar[str] = "url"


PROBES = {"whistle": WhistleProbe, "sniff": SniffProbe}


def test_a_new_probe_needs_nothing_but_its_own_fields(write) -> None:
    target = "{name: a, channel: call, probe: whistle, host: a.example, port: 1, tone: high}"
    text = f"messenger: signal\ntitle: S\n{SOURCES}targets: [{target}]\n"
    controls = write(
        "none.yaml",
        f"messenger: control\n{SOURCES}targets:\n"
        "  - {name: c, role: foreign, owner: x, probe: sniff, url: 'http://a.example/'}\n",
    )
    main = own(write, {"s.yaml": text}, f"messengers: [signal]\ncontrols: {controls}")
    config = load(main, PROBES)
    assert config.messengers[0].targets[0].probe == WhistleProbe(Tone.HIGH)
    assert config.controls[0].probe == SniffProbe()
    kinds = messenger_model(PROBES).model_json_schema()["properties"]["targets"]["items"]
    assert set(kinds["discriminator"]["mapping"]) == {"whistle", "sniff"}


def test_what_a_probe_itself_refuses_is_a_problem(write) -> None:
    from config.model import ConfigError

    target = "{name: a, channel: call, probe: whistle, host: a.b, port: 1, tone: high, volume: 2}"
    text = f"messenger: signal\ntitle: S\n{SOURCES}targets: [{target}]\n"
    main = own(write, {"s.yaml": text}, "messengers: [signal]\ncontrols: absent.yaml")
    with pytest.raises(ConfigError) as caught:
        load(main, PROBES)
    assert ("targets[0]", "is too loud") in [(p.key, p.message) for p in caught.value.problems]


def control(
    more: str = "", role: str = "foreign", probe: str = "tcp, host: a.example, port: 1"
) -> str:
    return f"{{name: c, role: {role}, owner: x, probe: {probe}{more}}}"


@pytest.mark.parametrize(
    ("entry", "key", "message"),
    [
        (
            "{name: c, owner: x, probe: tcp, host: a.example, port: 1}",
            "targets[0].role",
            "required",
        ),
        ("{name: c, role: stun, probe: tcp, host: a.b, port: 1}", "targets[0].owner", "required"),
        (control(", channel: chat"), "targets[0].channel", "not a known key"),
        (control(role="friend"), "targets[0].role", "'domestic'"),
        (control(", asn: -5"), "targets[0].asn", "greater"),
        (control(role="stun"), "targets[0]", "needs the probe stun"),
        (control(role="resolver"), "targets[0]", "needs the probe dns"),
        (control(probe="dns, query: a.b, resolver: nobody"), "targets[0].resolver", "must be"),
    ],
)
def test_one_mistake_in_a_control(write, problems, entry, key, message) -> None:
    write("mine.yaml", f"messenger: control\n{SOURCES}targets:\n  - {entry}\n")
    (found,) = problems(write("callpath.yaml", "controls: mine.yaml\n"))
    assert (Path(found.file).name, found.line, found.key) == ("mine.yaml", 4, key)
    assert message in found.message


def test_a_controls_file_has_no_quorum_and_is_no_messenger(write, problems) -> None:
    write("mine.yaml", f"messenger: telegram\n{SOURCES}quorum: 1\ntargets:\n  - {control()}\n")
    found = problems(write("callpath.yaml", "controls: mine.yaml\n"))
    assert [(p.line, p.key) for p in found] == [(1, "messenger"), (3, "quorum")]


def test_an_own_controls_file_stands_alone(write) -> None:
    write("mine.yaml", f"messenger: control\n{SOURCES}targets:\n  - {control(', asn: 64500')}\n")
    main = write("callpath.yaml", "controls: mine.yaml\nvantage: {country: RU}\n")
    (only,) = load(main).controls
    assert only.target == Target("control", "", "c", "tcp")
    assert (only.role, only.owner, only.asn) == (Role.FOREIGN, "x", 64500)


def test_a_country_adds_its_pack(write) -> None:
    def roles(country: str) -> list[Role | None]:
        main = write("callpath.yaml", f"vantage: {{country: {country}}}\n")
        return [target.role for target in load(main).controls]

    assert Role.DOMESTIC not in roles("''")
    assert roles("RU").count(Role.DOMESTIC) >= 3
    assert roles("NO") == roles("''")


def test_shipped_controls_of_a_resolver_that_is_not_trusted_are_left_out(write) -> None:
    text = "resolvers:\n  trusted:\n    - {name: quad9, address: 9.9.9.9, transports: [udp]}\n"
    names = [target.target.name for target in load(write("callpath.yaml", text)).controls]
    assert "resolver-quad9-udp" in names
    assert "resolver-quad9-tls" not in names
    none = load(write("callpath.yaml", "resolvers: {trusted: []}\n"))
    assert [t.target.name for t in none.controls if t.role is Role.RESOLVER] == ["resolver-system"]


def test_channels_are_those_of_the_vocabulary() -> None:
    fields = messenger_model().model_json_schema()["$defs"]["Channel"]["enum"]
    assert fields == [channel.value for channel in Channel]
    assert "Role" in controls_model().model_json_schema()["$defs"]


PEM = """
      -----BEGIN CERTIFICATE-----
      MIIBFTCBvAIUE3Y
      -----END CERTIFICATE-----
"""


def anchored(more: str = "") -> str:
    """A file with one anchor for two targets, as shipped ones have it."""
    return (
        "messenger: own\ntitle: Own\n"
        + SOURCES
        + "targets:\n"
        + "  - name: a\n    channel: chat\n    probe: tls\n    host: a.example\n    port: 443\n"
        + f"    authority: &own >-{more}"
        + "  - {name: b, channel: web, probe: https, url: 'https://b.example/', authority: *own}\n"
    )


def test_an_authority_is_said_once_for_many_targets(write, tmp_path) -> None:
    pem = Authority(tmp_path / "authority", "own").root.read_text("ascii")
    write("own/own.yaml", anchored("\n" + indent(pem, " " * 6)))
    main = write("callpath.yaml", "messengers: [own]\nmessenger_dirs: [own]\n")
    (own,) = load(main).messengers
    (said,) = {t.probe.authority for t in own.targets}
    assert read_anchors(said) == read_anchors(pem)


def test_what_is_no_certificate_is_no_authority(write, problems) -> None:
    write("own/own.yaml", anchored(PEM))
    main = write("callpath.yaml", "messengers: [own]\nmessenger_dirs: [own]\n")
    found = problems(main)
    assert {(p.key, p.message) for p in found} >= {
        ("targets[0].authority", "must be certificates in PEM")
    }
