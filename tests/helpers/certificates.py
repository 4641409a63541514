"""Certificates made by hand: an authority, and what it signs."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_PEM = serialization.Encoding.PEM
_PLAIN = serialization.NoEncryption()


class Certificates:
    """An authority, and what it signs: files in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.authority = self._write("ca", self._key, self._made("authority", self._key, is_authority=True))

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate that its authority has signed, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._write(
            name, key, self._made(name, key, is_authority=False)
        ), self._directory / f"{name}.key"

    def _made(self, name: str, key: ec.EllipticCurvePrivateKey, is_authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, key: ec.EllipticCurvePrivateKey, made: x509.Certificate) -> Path:
        path = self._directory / f"{name}.crt"
        path.write_bytes(made.public_bytes(_PEM))
        pem = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, _PLAIN)
        (self._directory / f"{name}.key").write_bytes(pem)
        return path


def encrypt(path: Path) -> None:
    """Puts a password on a key."""
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    form, password = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    path.write_bytes(key.private_bytes(_PEM, form, password))
