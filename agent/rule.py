"""A rule: what it needs to be seen, and what it then says, with how much confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.case import Symptom
from agent.sighting import Sign
from probes.model import Mechanism


@dataclass(frozen=True, slots=True)
class Rule:
    """Fires on one of ``symptoms`` when every one of ``needs`` holds. ``base`` is the probability
    that it is interference. Without all of ``firm`` it stays suspected. ``contrasts`` names the
    needs that decided, for people. ``without_outside``: what the base loses when the server being
    up is only inferred; ``after_three``: the base from the third spaced round on."""

    id: str
    symptoms: tuple[Symptom, ...]
    needs: tuple[Sign, ...]
    variant: str
    base: float
    sentence: str
    firm: tuple[Sign, ...] = ()
    without_outside: float = 0.05
    after_three: float = 0.0

    @property
    def mechanism(self) -> Mechanism:
        return MECHANISMS[self.variant]


M = Mechanism

MECHANISMS: Final = {
    **{str(m): m for m in Mechanism},
    "allowlist_mode": M.ALLOWLIST,
    "dns_suspect": M.DNS_TAMPER,
    "name_broken": M.TARGET_RETIRED,
    "rst_injection": M.TLS_SNI_RESET,
    "server_outage_partial": M.SERVER_OUTAGE,
    "tls_mitm_suspect": M.TLS_MITM,
    "udp_relay_ip_block": M.UDP_RELAY_BLOCK,
    "udp_dtls_fingerprint": M.UDP_DTLS_SIGNATURE,
    "quic_v1_block": M.QUIC_BLOCK,
    "quic_sni_drop": M.QUIC_BLOCK,
    "doh_sni_block": M.TLS_SNI_DROP,
    "doh_sni_reset": M.TLS_SNI_RESET,
    "flow_freeze_bytes": M.FLOW_FREEZE,
    "flow_freeze_packets": M.FLOW_FREEZE,
    "one_family_block": M.PARTIAL_BLOCK,
    "tls_sni_reset_stochastic": M.TLS_SNI_RESET,
    "tls_sni_drop_stochastic": M.TLS_SNI_DROP,
    "tls_sni_drop_delayed_stochastic": M.TLS_SNI_DROP_DELAYED,
}
"""The rules' finer words, and the mechanism of each."""
