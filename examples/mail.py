"""A typed handler: JSON is decoded and checked; a passing failure is tried again, a wrong address never."""

import msgspec
import structlog

from recado import Backoff, Reject, Worker

log = structlog.get_logger()
worker = Worker(group="mail")


class Mail(msgspec.Struct):
    """What a record of the topic says."""

    to: str
    subject: str = "Hola"


@worker.handler("flask-topic", concurrency=8, retry={ConnectionError: Backoff(first_s=1, attempts=20)})
def send(mail: Mail) -> None:
    """Pretend to send a mail."""
    if "@" not in mail.to:
        raise Reject(f"{mail.to!r} is no address")
    log.info("sent", to=mail.to, subject=mail.subject)


if __name__ == "__main__":
    worker.run()
