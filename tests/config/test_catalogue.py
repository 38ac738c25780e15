"""The shipped files: they load, say how sure they are, and hold what the issue asks for."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

import config
from config import CATALOGUE_VERSION
from config.document import read_yaml
from config.loader import load
from config.model import Config
from probes.model import Family, Proof, Role
from probes.wire.certificate import facts, read_anchors

FOLDER = Path(config.__file__).parent
FILES = sorted([*FOLDER.glob("messengers/*.yaml"), *FOLDER.glob("controls/*.yaml")])
PACKS = sorted(file.stem for file in FOLDER.glob("controls/*.yaml") if file.stem != "general")


@pytest.fixture(scope="module")
def shipped() -> Config:
    return load(None)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_target_says_its_proof_and_every_file_its_sources(file: Path) -> None:
    data = read_yaml(file).data
    assert data["sources"]
    for source in data["sources"]:
        assert date.fromisoformat(source["read"]) <= date.fromisoformat(
            CATALOGUE_VERSION.replace(".", "-")
        )
    assert [target["name"] for target in data["targets"] if "proof" not in target] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_is_called_what_it_describes(file: Path) -> None:
    expected = file.stem if file.parent.name == "messengers" else "control"
    assert read_yaml(file).data["messenger"] == expected


def test_the_version_is_a_date(shipped: Config) -> None:
    assert date.fromisoformat(shipped.catalogue.replace(".", "-"))


def test_no_shipped_target_sets_an_interval_a_user_might_forbid(shipped: Config) -> None:
    targets = [t for m in shipped.messengers for t in m.targets] + list(shipped.controls)
    assert [t.target.name for t in targets if t.interval is not None] == []


@pytest.mark.parametrize("country", PACKS)
def test_every_pack_loads_with_domestic_sites_of_three_owners(write, country: str) -> None:
    main = write("callpath.yaml", f"vantage: {{country: {country.upper()}}}\n")
    controls = load(main).controls
    domestic = [t for t in controls if t.role is Role.DOMESTIC and t.target.probe == "https"]
    assert len({target.owner for target in domestic}) >= 3
    names = Counter(target.target.name for target in controls)
    assert max(names.values()) == 1


def test_there_is_a_pack_for_russia_and_three_others() -> None:
    assert "ru" in PACKS
    assert len(PACKS) >= 4


def test_the_general_controls(shipped: Config) -> None:
    def owners(role: Role) -> set[str]:
        return {target.owner for target in shipped.controls if target.role is role}

    foreign = [t for t in shipped.controls if t.role is Role.FOREIGN and t.target.probe == "https"]
    assert len({target.owner for target in foreign}) >= 4
    assert len({target.asn for target in foreign}) >= 4
    assert all(target.url.startswith("https://") for target in foreign)
    assert len(owners(Role.STUN)) >= 4
    assert len(owners(Role.PORTAL)) >= 3
    assert owners(Role.DTLS)
    assert owners(Role.AD)
    resolvers = {t.probe.resolver for t in shipped.controls if t.role is Role.RESOLVER}
    assert resolvers == {"system", "quad9/udp", "quad9/tcp", "quad9/tls", "quad9/https"}
    portals = [t for t in shipped.controls if t.role is Role.PORTAL]
    assert all(t.url.startswith("http://") and t.probe.expect_status for t in portals)
    ports = {target.port for target in shipped.controls if target.role is Role.STUN}
    assert ports - {443, 3478}, "a STUN control on another port tells the port from the protocol"


def test_whatsapp(shipped: Config) -> None:
    whatsapp = shipped.messengers[0]
    assert whatsapp.name == "whatsapp"
    chat = {(t.host, t.port) for t in whatsapp.targets if t.target.channel == "chat" and t.host}
    for number in range(1, 17):
        assert {(f"e{number}.whatsapp.net", port) for port in (443, 5222)} <= chat
    assert {("g.whatsapp.net", port) for port in (80, 443, 5222)} <= chat
    relays = [t for t in whatsapp.targets if t.target.channel == "call" and t.host]
    assert {t.proof for t in relays} == {Proof.UNPROVEN}
    assert {t.target.probe for t in relays if not t.informative} == {"stun", "turn", "dtls"}
    assert {t.port for t in relays if t.target.probe == "dtls"} == {3478, 3480}
    pinned = {t.probe.fingerprint for t in relays if t.target.probe == "dtls"} - {""}
    assert pinned <= {"f9ca0c98a3cc71d642ce5ae253d21520d31bbad857a4f0afbe0bfbf36b0ca068"}
    assert {"bare", "app"} <= {str(t.probe.dress) for t in relays if t.target.probe == "stun"}


def test_telegram(shipped: Config) -> None:
    telegram = shipped.messengers[1]
    assert telegram.name == "telegram"
    centres = [
        t
        for t in telegram.targets
        if t.target.channel == "chat" and t.target.probe == "tcp" and not t.informative
    ]
    for version, count in ((4, 6), (6, 5)):
        places = Counter(t.host for t in centres if ip_address(t.host).version == version)
        assert len(places) == count
        assert set(places.values()) == {3}
    posts = [t for t in telegram.targets if t.target.probe == "https" and t.probe.method == "POST"]
    assert Counter(t.port for t in posts) == {80: 6, 443: 6}
    assert all(t.url.startswith("http://") and not t.probe.expect_status for t in posts)
    calls = [t for t in telegram.targets if t.target.channel == "call" and not t.informative]
    assert {t.port for t in calls} == {1400}
    assert {t.probe.realm for t in calls if t.target.probe == "turn"} == {"telegram.org"}
    captured = {t.host for t in calls if t.proof is Proof.CAPTURED}
    assert {"91.108.9.35", "91.108.13.23", "91.108.17.2"} <= captured  # answered in nDPI's capture
    assert Proof.DOCUMENTED not in {t.proof for t in calls}
    reflectors = [t for t in telegram.targets if t.target.probe == "reflector"]
    assert {(t.proof, t.informative) for t in reflectors} == {(Proof.UNPROVEN, True)}


NAMES = sorted(file.stem for file in FOLDER.glob("messengers/*.yaml"))


@pytest.fixture(scope="module")
def everyone(tmp_path_factory: pytest.TempPathFactory) -> Config:
    main = tmp_path_factory.mktemp("all") / "callpath.yaml"
    main.write_text(f"messengers: [{', '.join(NAMES)}]\n")
    return load(main)


def test_the_others_are_there_and_not_selected(shipped: Config, everyone: Config) -> None:
    assert [m.name for m in shipped.messengers] == ["whatsapp", "telegram"]
    assert set(shipped.available) == set(NAMES) - {"whatsapp", "telegram"}
    assert {*("discord", "facebook", "facetime", "google_meet", "instagram")} <= {
        *shipped.available
    }
    assert {*("signal", "teams", "viber", "zoom")} <= {*shipped.available}
    assert [m.name for m in everyone.messengers] == NAMES
    assert everyone.available == ()


def test_no_opt_in_target_sets_an_interval_or_a_family(everyone: Config) -> None:
    targets = [t for m in everyone.messengers for t in m.targets]
    assert {(t.interval, t.family) for t in targets} == {(None, Family.ANY)}


def test_two_messengers_never_ask_the_same_of_one_place(everyone: Config) -> None:
    """The second would not be measured: at most one check in 60 s (design 7)."""
    asked = [t for m in everyone.messengers for t in m.targets] + list(everyone.controls)
    whose: dict[tuple[str, int, str], set[str]] = {}
    for t in asked:
        if t.host:
            key = (t.host, t.port, t.target.probe)
            whose.setdefault(key, set()).add(t.target.messenger)
    assert {key: names for key, names in whose.items() if len(names) > 1} == {}


def test_signal_trusts_its_own_authority_alone(everyone: Config) -> None:
    signal = next(m for m in everyone.messengers if m.name == "signal")
    secured = [t for t in signal.targets if t.target.probe == "tls"]
    assert {t.host for t in secured} == {
        *("chat.signal.org", "storage.signal.org", "cdsi.signal.org", "sfu.voip.signal.org"),
        "svr2.signal.org",
    }
    (pem,) = {t.probe.authority for t in secured}
    (anchor,) = read_anchors(pem)
    its = facts([anchor])
    assert its["certificate_subject"] == its["certificate_issuer"] == "Signal Messenger"
    dates = [its[f"certificate_not_{word}"] for word in ("before", "after")]
    assert [datetime.fromtimestamp(float(at), UTC).date() for at in dates] == [
        date(2022, 1, 26),
        date(2032, 1, 24),
    ]
    turn = [t for t in signal.targets if t.target.probe == "turn"]
    assert {(t.port, t.probe.realm, t.proof) for t in turn} == {
        (3478, "signal.org", Proof.CAPTURED)
    }


def test_discords_voice_servers_are_the_captures(everyone: Config) -> None:
    discord = next(m for m in everyone.messengers if m.name == "discord")
    voice = [t for t in discord.targets if t.target.probe == "echo"]
    assert len({t.host for t in voice}) == 6
    assert {(t.port, t.probe.header, t.proof) for t in voice} == {
        (50004, "1337cafe", Proof.CAPTURED)
    }


def test_where_nobody_has_published_an_exchange_nothing_decides(everyone: Config) -> None:
    by_name = {m.name: m.targets for m in everyone.messengers}
    assert all(t.informative for t in by_name["facetime"])
    assert all(t.informative for t in by_name["zoom"] if t.target.channel == "call")
    assert {t.proof for t in (*by_name["viber"], *by_name["zoom"])} == {Proof.UNPROVEN}


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"whatsapp", "telegram"}))
def test_an_opt_in_messengers_sources_are_single_pages(name: str) -> None:
    """A date is true of a page that was opened, and of no whole repository."""
    for source in read_yaml(FOLDER / "messengers" / f"{name}.yaml").data["sources"]:
        parts = source["url"].removeprefix("https://").split("/")
        assert len(parts) > 3 or parts[0] != "github.com", source


def test_relays_and_data_centres_belong_to_the_owner(shipped: Config) -> None:
    """A typing error in an address shows as one outside the owner's prefixes."""
    in_providers = {"93.57.123.227", "170.78.54.98"}  # WhatsApp's caches
    for messenger in shipped.messengers:
        prefixes = [ip_network(prefix) for prefix in messenger.owner_prefixes]
        for target in messenger.targets:
            literal = ":" in target.host or target.host.replace(".", "").isdigit()
            hosts = [target.host] if literal and target.host not in in_providers else []
            for address in [*hosts, *target.addresses]:
                assert any(ip_address(address) in p for p in prefixes), (target.target, address)


def test_dns_targets_and_experiments_never_decide(shipped: Config) -> None:
    for messenger in shipped.messengers:
        assert all(t.informative for t in messenger.targets if t.target.probe == "dns")


def test_one_address_port_and_probe_has_one_deciding_target(shipped: Config) -> None:
    """Another dress there would take turns with it: at most one check in 60 s (design 7)."""
    for messenger in shipped.messengers:
        places = Counter(
            (t.host, t.port, t.target.probe)
            for t in messenger.targets
            if t.host and not t.informative and getattr(t.probe, "dress", "bare") != "app"
        )
        assert [place for place, count in places.items() if count > 1] == []


def test_nothing_shipped_is_bound_to_one_family(shipped: Config) -> None:
    targets = [t for m in shipped.messengers for t in m.targets] + list(shipped.controls)
    assert {target.family for target in targets} == {Family.ANY}


def test_no_calibration_is_shipped_and_the_folder_says_why() -> None:
    assert [file.name for file in (FOLDER / "calibration").iterdir()] == ["README.md"]
    assert load(None).calibration == ()
