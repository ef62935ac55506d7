"""Certificates for a cluster of one's own, and the Dask settings that make scheduler, workers and clients use them.

``python certificates.py DIRECTORY [DAYS]``, then ``export DASK_CONFIG=DIRECTORY/tls.yaml`` wherever Dask is started.
"""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SETTINGS = """\
distributed:
  comm:
    default-scheme: tls
    require-encryption: true
    tls:
      ca-file: {0}/ca.pem
      scheduler: {{cert: {0}/cert.pem, key: {0}/key.pem}}
      worker: {{cert: {0}/cert.pem, key: {0}/key.pem}}
      client: {{cert: {0}/cert.pem, key: {0}/key.pem}}
"""


def signed(
    name: str, key: ec.EllipticCurvePrivateKey, by: x509.Name, days: int, authority: bool
) -> x509.CertificateBuilder:
    """A certificate of ``name`` that has still to be signed."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))  # clocks of nodes differ
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )


def write(directory: Path, days: int = 30) -> None:
    """Write ca.pem, cert.pem, key.pem and tls.yaml, readable by their owner alone.

    Whoever reads key.pem can run code on the cluster. The authority's own key is not kept: no one can sign another one.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of this cluster")])
    authority = signed("authority of this cluster", authority_key, issuer, days, True).sign(
        authority_key, hashes.SHA256()
    )
    certificate = signed("dask", key, issuer, days, False).sign(authority_key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files = {"ca.pem": authority.public_bytes(pem), "cert.pem": certificate.public_bytes(pem), "key.pem": private}
    files["tls.yaml"] = SETTINGS.format(directory.resolve()).encode()
    for name, content in files.items():
        (directory / name).unlink(missing_ok=True)
        with open(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
