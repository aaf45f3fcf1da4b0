import logging
import signal
import threading

from django.core.management.base import BaseCommand

from hello.models import Visit

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Counts visits until it is told to stop."

    def handle(self, *args, **options):
        stop = threading.Event()
        # The platform sends SIGTERM and waits 30 seconds: finish the round, then go.
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        logger.info("Worker started")
        while not stop.is_set():
            counted = Visit.objects.filter(counted=False).update(counted=True)
            if counted:
                logger.info("Counted %d visits", counted)
            stop.wait(5)
        logger.info("Worker stopped")
