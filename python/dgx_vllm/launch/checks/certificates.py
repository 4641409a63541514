"""Certificates: what TLS is given, loaded before vLLM does so, which is once its engine is."""

import ssl

from dgx_vllm.launch.endpoint import asks_for_certificates
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.util.errors import FAILURE, UserError


class _EncryptedError(Exception):
    """The key wants a password, which vLLM has no flag for."""


def check(launch: Launch) -> None:
    """Refuses files that vLLM could not serve with.

    Raises:
        UserError: names the flag and the file.
    """
    certificate, key = launch.text("ssl-certfile"), launch.text("ssl-keyfile")
    authorities = launch.text("ssl-ca-certs")
    if not certificate:
        if key:
            raise UserError(f"--ssl-keyfile {key} needs --ssl-certfile, the certificate of that key")
        return
    if asks_for_certificates(launch) and not authorities:
        raise UserError(
            "--ssl-cert-reqs 2 asks clients for certificates, and without --ssl-ca-certs none is valid; "
            "name the file of the authority that issues them"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    named = f"--ssl-certfile {certificate}" + (f" and --ssl-keyfile {key}" if key else "")
    try:
        context.load_cert_chain(certificate, key, _no_password)
    except _EncryptedError as error:
        raise UserError(
            f"the key in {key or certificate} is encrypted and vLLM has no flag for its password; write it "
            f"unencrypted: openssl pkey -in {key or certificate} -out NEW.key",
            FAILURE,
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{named} cannot be used: {_why(error)}; give a PEM certificate and its key", FAILURE
        ) from error
    if authorities:
        try:
            context.load_verify_locations(authorities)
        except (OSError, ValueError) as error:
            raise UserError(
                f"--ssl-ca-certs {authorities} cannot be used: {_why(error)}; give PEM certificates", FAILURE
            ) from error


def _no_password() -> str:
    raise _EncryptedError


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it is not PEM").replace("_", " ").lower()
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
