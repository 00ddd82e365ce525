# The audit of the log that ships with kernadv:  docker build -t kernadv . && docker run --rm kernadv
# Your own log:  docker run --rm -v "$PWD:/logs:ro" kernadv audit /logs/log.csv
FROM python:3.11-slim
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir -c constraints.txt ".[audit]" && useradd --create-home user
USER user
WORKDIR /home/user
ENTRYPOINT ["kernadv"]
CMD ["audit", "--demo"]
