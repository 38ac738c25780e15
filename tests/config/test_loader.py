"""callpath.yaml itself: defaults, every refusal with its line and key, all of them at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import config
from config.document import read_yaml
from config.effective import effective
from config.loader import load
from config.model import ConfigError
from config.schema import Settings
from tests.config.conftest import messenger_text

SHIPPED = Path(config.__file__).parent / "callpath.yaml"


def test_the_shipped_file_says_every_default_and_nothing_else() -> None:
    data = read_yaml(SHIPPED).data
    assert data == Settings().model_dump(mode="json")
    assert load(SHIPPED).settings == load(None).settings == Settings()


def test_every_key_of_the_shipped_file_has_a_comment() -> None:
    for line in SHIPPED.read_text(encoding="utf-8").splitlines():
        key = line.split("#")[0].strip().removeprefix("- ")
        if ":" in key and key not in (
            "resolvers:",
            "schedule:",
            "state:",
            "limits:",
            "web:",
            "log:",
        ):
            assert "#" in line or key.startswith(("udp", "tcp", "tls:", "https")), line


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "{}\n"])
def test_an_empty_file_is_all_defaults(write, text: str) -> None:
    assert load(write("callpath.yaml", text)).settings == Settings()


def test_durations_and_sizes_are_numbers(write) -> None:
    text = "schedule: {interval: 1.5m}\nlimits: {bytes_per_day: 64KiB}\nstate: {spacing: 500ms}\n"
    settings = load(write("callpath.yaml", text)).settings
    assert settings.schedule.interval == 90.0
    assert settings.limits.bytes_per_day == 65536
    assert settings.state.spacing == 0.5


def test_norway_needs_no_quotes(write) -> None:
    for text in ("NO", "'NO'", '"NO"'):
        main = write("callpath.yaml", f"vantage: {{country: {text}}}\n")
        assert load(main).settings.vantage.country == "NO"


def test_relative_paths_start_at_the_folder_of_the_file(write, monkeypatch, tmp_path) -> None:
    pem = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"
    write("sub/ca.pem", pem)
    main = write("sub/callpath.yaml", "tls_ca_file: ca.pem\nstate_dir: ../state\n")
    monkeypatch.chdir(tmp_path)
    settings = load(main.relative_to(tmp_path)).settings
    assert settings.tls_ca_file == str(tmp_path / "sub/ca.pem")
    assert settings.state_dir == str(tmp_path / "sub/../state")


def test_five_mistakes_are_named_together(write) -> None:
    main = write(
        "callpath.yaml",
        """\
        vantage: {country: Norway}
        profle: client
        schedule:
          interval: 30
        limits:
          concurrency: 0
        resolvers:
          trusted:
            - {name: quad9, address: dns.quad9.net, tls_name: dns.quad9.net}
        """,
    )
    with pytest.raises(ConfigError) as caught:
        load(main)
    found = {(problem.file, problem.line, problem.key) for problem in caught.value.problems}
    assert found == {
        (str(main), 1, "vantage.country"),
        (str(main), 2, "profle"),
        (str(main), 4, "schedule.interval"),
        (str(main), 6, "limits.concurrency"),
        (str(main), 9, "resolvers.trusted[0].address"),
    }
    assert f"{main}:2: profle: is not a known key; did you mean profile?" in str(caught.value)


def test_mistakes_of_every_file_are_named_together(write, problems) -> None:
    target = "{name: a, channel: chat, probe: tcp, host: a.example, port: 0}"
    head = 'title: S\nsources: [{url: "https://e.org/", read: 2026-11-20}]\n'
    write("own/signal.yaml", f"messenger: signal\n{head}targets:\n  - {target}\n")
    write("controls.yaml", "messenger: control\n")
    write("cal.json", "{}")
    main = write(
        "callpath.yaml",
        """\
        messengers: [signal, nobody]
        messenger_dirs: [own]
        controls: controls.yaml
        calibration: [cal.json]
        web: {listen: "0.0.0.0:1"}
        asn: 5
        """,
    )
    found = {(Path(problem.file).name, problem.line, problem.key) for problem in problems(main)}
    assert found == {
        ("callpath.yaml", 1, "messengers[1]"),
        ("callpath.yaml", 5, "web.listen"),
        ("callpath.yaml", 6, "asn"),
        ("signal.yaml", 5, "targets[0].port"),
        ("controls.yaml", 1, "sources"),
        ("controls.yaml", 1, "targets"),
        ("cal.json", 0, "version"),
        ("cal.json", 0, "catalogue"),
        ("cal.json", 0, "network"),
        ("cal.json", 0, "at"),
        ("cal.json", 0, "targets"),
    }


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ("vantage: {country: no}", 1, "vantage.country", "two capital letters"),
        ("vantage: {country: UK}", 1, "vantage.country", "two capital letters"),
        ("vantage: {country: false}", 1, "vantage.country", "string, not False"),
        ("vantage: {asn: 4294967296}", 1, "vantage.asn", "less than or equal"),
        ("vantage: {asn: -1}", 1, "vantage.asn", "greater than or equal"),
        ("vantage: {asn: true}", 1, "vantage.asn", "integer, not True"),
        ("vantage: {asn: 1.5}", 1, "vantage.asn", "integer"),
        ("vantage: {asn: '5'}", 1, "vantage.asn", "integer, not '5'"),
        ("vantage: {network: dsl}", 1, "vantage.network", "'fixed'"),
        ("vantage: {name: a b}", 1, "vantage.name", "pattern"),
        ("vantage: home", 1, "vantage", "mapping"),
        ("vantage:", 1, "vantage", "has no value"),
        ("profile: full", 1, "profile", "'client' or 'research'"),
        ("profile: research", 1, "profile", "needs risks: accepted"),
        ("risks: ''\nprofile: research", 2, "profile", "needs risks: accepted"),
        ("risks: 'yes'", 1, "risks", "'accepted'"),
        ("messengers: []", 1, "messengers", "must not be empty"),
        ("messengers: telegram", 1, "messengers", "array, not 'telegram'"),
        ("messengers: [telegram, telegram]", 1, "messengers", "twice"),
        ("messengers:\n  - telegram\n  - Viber", 3, "messengers[1]", "pattern"),
        (
            "messengers:\n  - telegram\n  - nobody",
            3,
            "messengers[1]",
            "known are: discord, ",
        ),
        ("messenger_dirs: [absent]", 1, "messenger_dirs[0]", "cannot be read"),
        ("\ncontrols: absent.yaml", 2, "controls", "cannot be read"),
        ("\ncalibration: [absent.json]", 2, "calibration[0]", "cannot be read"),
        ("resolvers: {system: dns.google}", 1, "resolvers.system", "must"),
        ("resolvers: {system: '9.9.9.9:99999'}", 1, "resolvers.system", "65535"),
        ("tls_ca_file: absent.pem", 1, "tls_ca_file", "cannot be read"),
        ("tls_ca_file: callpath.yaml", 1, "tls_ca_file", "no PEM certificate"),
        ("source_address: not/an/interface", 1, "source_address", "interface"),
        ("schedule: {interval: 60}", 1, "schedule.interval", "with a unit"),
        ("schedule: {interval: 1:30}", 1, "schedule.interval", "with a unit"),
        ("schedule: {interval: 0}", 1, "schedule.interval", "greater than 0"),
        ("schedule: {interval: 59s}", 1, "schedule.interval", "limits.min_interval"),
        ("schedule: {handshake_interval: 1s}", 1, "schedule.handshake_interval", "min_interval"),
        ("limits:\n  min_interval: 2m", 2, "schedule.interval", "limits.min_interval"),
        ("limits:\n  min_interval: 59s", 2, "limits.min_interval", "fast_prefixes"),
        ("limits: {fast_prefixes: [192.0.2.1/24]}", 1, "limits.fast_prefixes[0]", "host bits"),
        ("limits: {bytes_per_day: 200MB}", 1, "limits.bytes_per_day", "200MiB"),
        ("limits: {bytes_per_day: 0B}", 1, "limits.bytes_per_day", "greater than"),
        ("state: {enter: 0}", 1, "state.enter", "greater than"),
        ("web: {listen: '0.0.0.0:22550'}", 1, "web.listen", "web.insecure: true"),
        ("web: {listen: '[::]:22550'}", 1, "web.listen", "web.insecure: true"),
        ("web: {listen: '22550'}", 1, "web.listen", "host:port"),
        ("web: {listen: '::1:22550'}", 1, "web.listen", "brackets"),
        ("web: {listen: 'example.org:22550'}", 1, "web.listen", "localhost"),
        ("web: {config_file: x}", 1, "web.config_file", "No such file"),
        ("log: {level: trace}", 1, "log.level", "'debug'"),
        ("outside: {url: 'ftp://x.example/'}", 1, "outside.url", "http://"),
        ("outside: {url: 'https://a:b@x.example/'}", 1, "outside.url", "password"),
        ("outside:\n  file: a.json\n  url: 'https://x.example/'", 3, "outside.url", "beside file"),
        ("outside: {max_age: 0s}", 1, "outside.max_age", "greater than"),
        ("outside: {maxage: 1m}", 1, "outside.maxage", "did you mean max_age?"),
        ("twin: {address: 192.0.2.1}", 1, "twin.key_file", "others: key_file, tls_sha256"),
        ("twin: {address: twin.example}", 1, "twin.address", "must be an IP address"),
        ("twin: {udp_ports: []}", 1, "twin.udp_ports", "must not be empty"),
        ("twin: {udp_ports: [3478, 3478]}", 1, "twin.udp_ports", "twice"),
        ("twin: {udp_ports: [0]}", 1, "twin.udp_ports[0]", "greater than"),
        ("twin: {udp_ports: [1, 2, 3, 4, 5, 6, 7, 8, 9]}", 1, "twin.udp_ports", "at most 8"),
        ("twin: {tls_sha256: abc}", 1, "twin.tls_sha256", "64 hexadecimal digits"),
        (
            f"twin:\n  address: 192.0.2.1\n  key_file: nowhere\n  tls_sha256: {'ab' * 32}",
            3,
            "twin.key_file",
            "cannot be read: No such file",
        ),
        ("media: {profile: voip20}", 1, "media.profile", "needs profile: research"),
        ("media: {profile: voice}", 1, "media.profile", "'keepalive'"),
        ("media: {targets: 65}", 1, "media.targets", "less than or equal to 64"),
        ("localise:\n  enabled: true", 2, "localise.enabled", "needs profile: research"),
        ("localise: {per_day: 0}", 1, "localise.per_day", "greater than"),
        ("localise: {per_day: 25}", 1, "localise.per_day", "less than"),
        ("localise: {hops: true}", 1, "localise.hops", "not a known key"),
        ("localise: {asn_file: nowhere}", 1, "localise.asn_file", "No such file"),
        ("history: {keep: 400d}", 1, "history.keep", "less than or equal to"),
        ("history: {keep: 5m}", 1, "history.keep", "greater than or equal to"),
        ("history: {max_size: 1MiB}", 1, "history.max_size", "greater than or equal to"),
        ("history: on", 1, "history", ""),
        ("probe_endpoint: {allow: [1.2.3]}", 1, "probe_endpoint.allow[0]", "IP address"),
        ("probe_endpoint: {allow: ['a.test:0']}", 1, "probe_endpoint.allow[0]", "1 to 65535"),
        (
            "probe_endpoint: {modules: {m: {probe: stun, dres: ice}}}",
            1,
            "probe_endpoint.modules.m.dres",
            "did you mean dress?",
        ),
        ("probe_endpoint: {modules: {m: {probe: dns}}}", 1, "probe_endpoint.modules.m.query", ""),
        ("probe_endpoint: {modules: {m: {probe: icmp}}}", 1, "probe_endpoint.modules.m.probe", ""),
        ("probe_endpoint: {modules: {m: {}}}", 1, "probe_endpoint.modules.m.probe", "required"),
        (
            "probe_endpoint: {modules: {m: {probe: quic}}}",
            1,
            "probe_endpoint.modules.m.probe",
            "profile: research",
        ),
    ],
)
def test_one_mistake_is_one_message(mistakes, text, line, key, message) -> None:
    (found,) = mistakes(text)
    assert found[:2] == (line, key)
    assert message in found[2]


RESOLVERS = "resolvers:\n  trusted:\n"


@pytest.mark.parametrize(
    ("entries", "line", "key", "message"),
    [
        (["{name: q, address: dns.q, tls_name: q.net}"], 3, "address", "IP address"),
        (["{name: q, address: 9.9.9.9}"], 3, "tls_name", "required for the transports"),
        (["{address: 9.9.9.9, transports: [udp]}"], 3, "name", "is required"),
        (["{name: system, address: 9.9.9.9, transports: [udp]}"], 3, "name", "already taken"),
        (["{name: q, address: 9.9.9.9, transports: []}"], 3, "transports", "must not be empty"),
        (["{name: q, address: 9.9.9.9, transports: [udp, udp]}"], 3, "transports", "twice"),
        (["{name: q, address: 9.9.9.9, transports: [quic]}"], 3, "transports[0]", "'udp'"),
        (["{name: q, address: 9.9.9.9, tls_name: q.net, doh_path: x}"], 3, "doh_path", "pattern"),
        (
            ["{name: q, address: 9.9.9.9, tls_name: q.net, ports: {dot: 1}}"],
            3,
            "ports.dot",
            "known",
        ),
    ],
)
def test_trusted_resolvers(mistakes, entries, line, key, message) -> None:
    (found,) = mistakes(RESOLVERS + "".join(f"    - {entry}\n" for entry in entries))
    assert found[:2] == (line, f"resolvers.trusted[0].{key}")
    assert message in found[2]


def test_two_resolvers_of_one_name(mistakes) -> None:
    entry = "    - {name: q, address: 9.9.9.9, transports: [udp]}\n"
    (found,) = mistakes(RESOLVERS + entry + entry)
    assert found[:2] == (4, "resolvers.trusted[1].name")


@pytest.mark.parametrize(
    "text",
    [
        "profile: research\nrisks: accepted",
        "profile: research\nrisks: accepted\nlocalise: {enabled: true, per_day: 24}",
        "localise: {enabled: false, per_day: 1}",
        "risks: accepted",
        "limits: {min_interval: 1s, fast_prefixes: [0.0.0.0/0, '::/0']}\nschedule: {interval: 2s}",
        "web: {listen: '0.0.0.0:22550', insecure: true}",
        "web: {listen: '[::1]:22550'}",
        "web: {listen: 'localhost:0'}",
        "source_address: wlan0",
        "source_address: 2001:db8::1",
        "resolvers: {system: '[2620:fe::fe]:53', trusted: []}",
    ],
)
def test_what_is_right(mistakes, text: str) -> None:
    assert mistakes(text) == []


def test_a_contradiction_is_not_blamed_on_a_default(mistakes) -> None:
    """interval fits the min_interval that was meant; only the misspelt one is wrong."""
    text = "schedule: {interval: 10s}\nlimits: {min_interval: 5, fast_prefixes: [10.0.0.0/8]}\n"
    assert [found[1] for found in mistakes(text)] == ["limits.min_interval"]


def test_contradictions_are_found_beside_other_mistakes(mistakes) -> None:
    text = "profile: research\nlog: {level: loud}\nmessengers: [telegram, 5]\n"
    text += "web: {listen: '0.0.0.0:1'}\n"
    assert {found[1] for found in mistakes(text)} == {
        "profile",
        "log.level",
        "messengers[1]",
        "web.listen",
    }


def test_the_effective_configuration_can_be_loaded_again(write) -> None:
    text = "schedule: {interval: 90s}\nlimits: {bytes_per_day: 1GiB}\nvantage: {country: RU}\n"
    first = load(write("callpath.yaml", text))
    shown = effective(first)
    again = load(write("again.yaml", json.dumps(shown["callpath"])))
    assert again.settings == first.settings
    assert json.loads(json.dumps(shown)) == shown
    assert {"catalogue", "callpath", "messengers", "controls", "calibration"} == shown.keys()


def test_the_documented_defaults_may_be_written_out_in_full(mistakes) -> None:
    """Whoever copies the block gets a configuration that runs."""
    text = """
        outside: {file: "", url: "", max_age: 15m}
        twin: {address: "", udp_ports: [3478], tls_port: 443, key_file: "", tls_sha256: ""}
        media: {profile: keepalive, targets: 2}
        localise: {enabled: false, per_day: 3, asn_file: ""}
        probe_endpoint: {modules: {}, allow: []}
        history: {enabled: true, keep: 30d, max_size: 1GiB}
        web: {listen: "127.0.0.1:22550", insecure: false, config_file: ""}
    """
    assert mistakes(text) == []


def test_a_twin_is_configured_as_a_whole(write, problems) -> None:
    write("twin.key", "ab" * 32 + "\n")
    digits = "0123456789ABCDEF" * 4
    colons = ":".join(digits[n : n + 2] for n in range(0, 64, 2))
    text = (
        "twin: {address: '2001:DB8::7', udp_ports: [3478, 443], key_file: twin.key,"
        f" tls_sha256: '{colons}'}}\n"
    )
    twin = load(write("callpath.yaml", text)).settings.twin
    assert (twin.address, twin.udp_ports, twin.tls_port) == ("2001:db8::7", (3478, 443), 443)
    assert twin.tls_sha256 == digits.lower()
    assert Path(twin.key_file).name == "twin.key"
    assert Path(twin.key_file).is_absolute()
    write("twin.key", "secret")
    found = problems(write("callpath.yaml", text))
    assert [(p.line, p.key) for p in found] == [(1, "twin.key_file")]
    assert "secret" not in str(found[0])


def test_a_short_interval_is_for_fast_prefixes_only(write, problems) -> None:
    targets = [
        "{name: in, channel: chat, probe: tcp, host: 192.0.2.1, port: 1}",
        "{name: named, channel: chat, probe: tcp, host: a.example, port: 1}",
        "{name: out, channel: chat, probe: tcp, host: 198.51.100.1, port: 1}",
        '{name: url, channel: web, probe: https, url: "https://198.51.100.2/"}',
        '{name: pin, channel: chat, probe: tcp, host: b.test, port: 1, address: ["2001:db8::1"]}',
    ]
    control = "{name: c, role: foreign, owner: x, probe: tcp, host: 192.0.2.9, port: 1}"
    write("own/signal.yaml", messenger_text(targets=targets))
    write(
        "controls.yaml",
        "messenger: control\nsources: [{url: 'https://x.example/', read: 2026-11-20}]\n"
        f"targets:\n  - {control}\n",
    )
    settings = (
        "messengers: [signal]\nmessenger_dirs: [own]\ncontrols: controls.yaml\n"
        "limits: {min_interval: 1s, fast_prefixes: [192.0.2.0/24]}\nschedule: {interval: 1s}\n"
    )
    found = problems(write("callpath.yaml", settings))
    assert [(p.line, p.key) for p in found] == [
        (8, "targets[2].host"),
        (9, "targets[3].url"),
        (10, "targets[4].address"),
    ]
    assert all("fast_prefixes" in p.message for p in found)
    slow = settings.replace("min_interval: 1s, ", "").replace("interval: 1s", "interval: 60s")
    assert problems(write("callpath.yaml", slow)) == []


RESEARCH = "{name: big, channel: media, probe: transfer, url: 'https://a.example/x'}"
SMALL = "{name: small, channel: media, probe: tcp, host: a.example, port: 1}"


def test_what_the_client_profile_forbids_is_not_there(write) -> None:
    write("own/signal.yaml", messenger_text(targets=[RESEARCH, SMALL]))
    text = "messengers: [signal]\nmessenger_dirs: [own]\n"
    client = load(write("callpath.yaml", text))
    assert [t.target.name for t in client.messengers[0].targets] == ["small"]
    assert "transfer" not in {t.target.probe for t in client.controls}
    assert "transfer" not in json.dumps(effective(client)["messengers"])
    research = load(write("callpath.yaml", f"{text}profile: research\nrisks: accepted\n"))
    assert [t.target.name for t in research.messengers[0].targets] == ["big", "small"]
    assert "transfer" in {t.target.probe for t in research.controls}


def test_a_mistake_in_what_is_not_there_is_a_mistake(write, problems) -> None:
    wrong = RESEARCH.replace("transfer,", "transfer, max_bytes: 1000001,")
    write("own/signal.yaml", messenger_text(targets=[wrong]))
    (found,) = problems(write("callpath.yaml", "messengers: [signal]\nmessenger_dirs: [own]\n"))
    assert found.key == "targets[0].max_bytes"
    assert "1000000" in found.message


def test_the_shipped_transfers_never_decide(write) -> None:
    loaded = load(write("callpath.yaml", "profile: research\nrisks: accepted\n"))
    everything = [*loaded.controls, *(t for m in loaded.messengers for t in m.targets)]
    transfers = [t for t in everything if t.target.probe == "transfer"]
    assert {t.target.messenger for t in transfers} == {"control", "telegram"}
    assert all(t.informative and t.url.startswith("https://") for t in transfers)


CALLED = "{name: flow, channel: call, probe: call, host: 192.0.2.1, port: 1400, fast: true}"
ACCEPTED = "messengers: [signal]\nmessenger_dirs: [own]\nprofile: research\nrisks: accepted\n"


def test_a_call_is_for_the_research_profile(write) -> None:
    write("own/signal.yaml", messenger_text(targets=[CALLED, SMALL]))
    research = load(write("callpath.yaml", ACCEPTED))
    (flow,) = [t.probe for t in research.messengers[0].targets if t.target.name == "flow"]
    assert (flow.fast, flow.profile, flow.length) == (True, "voip60", 20.0)
    client = load(write("callpath.yaml", ACCEPTED.partition("profile")[0]))
    assert "flow" not in {t.target.name for t in client.messengers[0].targets}


@pytest.mark.parametrize(
    ("key", "value"), [("seconds", "61"), ("seconds", "1"), ("profile", "keepalive")]
)
def test_a_call_that_makes_no_sense(write, problems, key: str, value: str) -> None:
    write(
        "own/signal.yaml",
        messenger_text(targets=[CALLED.replace("fast:", f"{key}: {value}, fast:")]),
    )
    (found,) = problems(write("callpath.yaml", ACCEPTED))
    assert key in f"{found.key} {found.message}"
