"""A real SMTP server that keeps what it gets: one JSON object a line, for tests to read.

Two doors on loopback, on ports that the system picks: a plain one, and one that insists on STARTTLS
(with the bed's private certificate) and then on AUTH. The recipient's local part decides:

    reject@...  550, for good         later@...  451, try again later
    hang@...    no answer to RCPT     any other  taken and written down

The addresses are written to a file as KEY=VALUE when both doors are open.
"""

import argparse
import asyncio
import base64
import email
import email.policy
import json
import os
import signal
import ssl

from aiosmtpd.smtp import SMTP, AuthResult

SLOWEST = 300  # seconds: longer than any client waits


class Handler:
    def __init__(self, mails):
        self.mails = mails

    async def handle_RCPT(self, server, session, envelope, address, options):
        match address.split("@")[0]:
            case "reject":
                return "550 5.1.1 no such mailbox here"
            case "later":
                return "451 4.3.0 not now, try again later"
            case "hang":
                await asyncio.sleep(SLOWEST)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        body = message.get_body(("plain", "html"))
        line = json.dumps({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None,
            "user": session.auth_data,
            "headers": {name: str(value) for name, value in message.items()},
            "subject": str(message["subject"]),
            "text": body.get_content() if body else None,
            "parts": [part.get_content_type() for part in message.walk()],
            "raw": base64.b64encode(envelope.content).decode(),
        })
        # One write to a file opened for appending: a reader never sees half a line of a finished mail.
        os.write(self.mails, (line + "\n").encode())
        return "250 OK taken"


def authenticator(user, password):
    def decide(server, session, envelope, mechanism, data):
        if (data.login, data.password) == (user.encode(), password.encode()):
            return AuthResult(success=True, auth_data=user)
        # handled=True would mean that we have answered already: the client would wait for ever.
        return AuthResult(success=False, handled=False)

    return decide


async def main(options):
    mails = os.open(options.mails, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.certificate, options.key)
    shared = {"handler": Handler(mails), "hostname": "localhost", "enable_SMTPUTF8": True}
    strict = shared | {
        "tls_context": context,
        "require_starttls": True,
        "auth_required": True,
        "authenticator": authenticator(options.user, options.password),
    }
    loop = asyncio.get_running_loop()
    plain = await loop.create_server(lambda: SMTP(**shared), "127.0.0.1", 0)
    starttls = await loop.create_server(lambda: SMTP(**strict), "127.0.0.1", 0)
    with open(options.addresses + ".new", "w") as file:
        file.write(f"BED_SMTP_PLAIN=127.0.0.1:{plain.sockets[0].getsockname()[1]}\n")
        file.write(f"BED_SMTP_STARTTLS=127.0.0.1:{starttls.sockets[0].getsockname()[1]}\n")
    os.rename(options.addresses + ".new", options.addresses)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("mails", "addresses", "certificate", "key", "user", "password"):
        parser.add_argument("--" + name, required=True)
    asyncio.run(main(parser.parse_args()))
