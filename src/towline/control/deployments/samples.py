"""The project that a new owner deploys with one click: one small, well-known image and nothing else."""

SAMPLE_NAME = "hello"
SAMPLE_WHY = "the sample"
SAMPLE = """\
# A small web page. The host picks a free port for it: the services on its page show which.
services:
  web:
    image: nginx:alpine
    ports:
      - "80"
    healthcheck:
      test: ["CMD-SHELL", "wget -q -O /dev/null http://127.0.0.1/"]
      interval: 2s
      timeout: 2s
      retries: 15
    restart: unless-stopped
"""
