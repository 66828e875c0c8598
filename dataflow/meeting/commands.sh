#!/bin/sh
# Made by boiler-beam deploy: what it runs, and what you run later.
set -eu

# Builds the image of launcher and workers, and stores it.
gcloud builds submit build/deploy/meeting/image --tag=us-central1-docker.pkg.dev/my-project/boiler-beam/meeting:VERSION --project=my-project --region=us-central1

# Makes the streaming template.
gcloud storage cp build/deploy/meeting/streaming.json gs://my-project-boiler-beam/templates/meeting/VERSION/streaming.json --project=my-project

# Makes the backfill template.
gcloud storage cp build/deploy/meeting/backfill.json gs://my-project-boiler-beam/templates/meeting/VERSION/backfill.json --project=my-project

# Keeps beside them what an update is compared with.
gcloud storage cp build/deploy/meeting/compatibility.json gs://my-project-boiler-beam/templates/meeting/VERSION/compatibility.json --project=my-project

# Starts the job of the stream.
gcloud dataflow flex-template run meeting --template-file-gcs-location=gs://my-project-boiler-beam/templates/meeting/VERSION/streaming.json '--parameters=^|^source=firestore:my-project,pubsub:projects/my-project/subscriptions/meeting|sink=firestore:my-project|dead_letter=firestore:my-project' --temp-location=gs://my-project-boiler-beam/temp --staging-location=gs://my-project-boiler-beam/staging --enable-streaming-engine --project=my-project --region=us-central1

# Notes which version runs.
gcloud storage cp gs://my-project-boiler-beam/templates/meeting/VERSION/compatibility.json gs://my-project-boiler-beam/templates/meeting/running.json --project=my-project

# Runs a backfill every 1d.
gcloud scheduler jobs create http meeting-backfill '--schedule=22 0 * * *' --uri=https://dataflow.googleapis.com/v1b3/projects/my-project/locations/us-central1/flexTemplates:launch --http-method=POST --headers=Content-Type=application/json --message-body-from-file=build/deploy/meeting/launch_backfill.json --oauth-service-account-email=scheduler@my-project.iam.gserviceaccount.com --time-zone=Etc/UTC --location=us-central1 --project=my-project

# Lists the jobs, with their ids.
# gcloud dataflow jobs list --status=active --region=us-central1 --project=my-project

# Runs a backfill now.
# gcloud dataflow flex-template run meeting-backfill --template-file-gcs-location=gs://my-project-boiler-beam/templates/meeting/VERSION/backfill.json --parameters=source=firestore:my-project,sink=firestore:my-project,dead_letter=firestore:my-project --temp-location=gs://my-project-boiler-beam/temp --staging-location=gs://my-project-boiler-beam/staging --project=my-project --region=us-central1

# Takes a snapshot of a job's state, before a risky update.
# gcloud dataflow snapshots create --job-id=JOB_ID --snapshot-ttl=7d --snapshot-sources=true --region=us-central1 --project=my-project

# Drains a job: it ends when what it read is written.
# gcloud dataflow jobs drain JOB_ID --region=us-central1 --project=my-project
