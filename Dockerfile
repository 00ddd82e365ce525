# The audit of the log that ships with kernadv:  docker build -t kernadv . && docker run --rm kernadv
# Your own log:  docker run --rm -v "$PWD:/logs:ro" kernadv audit /logs/log.csv
FROM python:3.11-slim
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir -c constraints.txt ".[audit]" && useradd --create-home --uid 1000 user
USER 1000
WORKDIR /home/user
# Compiles the loops.  As the user that runs them: numba passes over a cache in a folder that cannot be written.
RUN kernadv audit --demo
ENTRYPOINT ["kernadv"]
CMD ["audit", "--demo"]
