#!/bin/sh
# What dataflow/terraform makes, by gcloud: topics, subscriptions, accounts, roles, relay, bucket, repository, TTL policy.
#
#   PROJECT=my-project REGION=us-central1 LOCATION=nam5 NAME=meeting sh dataflow/setup.sh
#
# LOCATION is that of the database: gcloud firestore databases describe. It can be run again: what is there stays.
# `sh dataflow/setup.sh --print` prints the commands. Alerts and dashboard are in Terraform alone.
set -eu
: "${PROJECT:?}" "${REGION:?}" "${LOCATION:?}" "${NAME:?}"
DATABASE="${DATABASE:-(default)}"
CONSISTENCY="${CONSISTENCY:-eventual}"
HERE=$(dirname "$0")
PRINT="${1:-}"

account() { echo "$NAME-$1@$PROJECT.iam.gserviceaccount.com"; }

# Runs a command, or prints it.
do_() {
    if [ "$PRINT" = --print ]; then echo "$@"; else "$@"; fi
}

# Makes a resource, unless it is there: made CREATE... -- DESCRIBE...
made() {
    create="" describe="" is_create=1
    for word in "$@"; do
        if [ "$word" = -- ]; then is_create=""; continue; fi
        if [ -n "$is_create" ]; then create="$create '$word'"; else describe="$describe '$word'"; fi
    done
    if [ "$PRINT" != --print ] && eval "gcloud $describe --project='$PROJECT'" >/dev/null 2>&1; then return; fi
    eval "do_ gcloud $create --project='$PROJECT'"
}

# Grants a role: granted ACCOUNT ROLE WHY COMMAND...
granted() {
    member="serviceAccount:$(account "$1")" role="$2"
    echo "# $1 has $role: $3" >&2
    shift 3
    do_ gcloud "$@" --member="$member" --role="$role" --project="$PROJECT"
}

do_ gcloud services enable artifactregistry.googleapis.com cloudbuild.googleapis.com cloudfunctions.googleapis.com \
    cloudscheduler.googleapis.com compute.googleapis.com dataflow.googleapis.com eventarc.googleapis.com \
    firestore.googleapis.com monitoring.googleapis.com pubsub.googleapis.com run.googleapis.com --project="$PROJECT"

made storage buckets create "gs://$PROJECT-boiler-beam" --location="$REGION" --uniform-bucket-level-access \
    --soft-delete-duration=0 -- storage buckets describe "gs://$PROJECT-boiler-beam"
made artifacts repositories create boiler-beam --repository-format=docker --location="$REGION" \
    -- artifacts repositories describe boiler-beam --location="$REGION"
do_ gcloud firestore fields ttls update expireAt --collection-group=_boiler_tombstones --enable-ttl --async \
    --database="$DATABASE" --project="$PROJECT"

for topic in changes "$NAME-dead-letters" "$NAME-undelivered"; do
    made pubsub topics create "$topic" -- pubsub topics describe "$topic"
done
made pubsub subscriptions create "$NAME" --topic=changes --ack-deadline=60 --message-retention-duration=7d \
    --expiration-period=never -- pubsub subscriptions describe "$NAME"
made pubsub subscriptions create "$NAME-dead-letters" --topic="$NAME-dead-letters" --ack-deadline=60 \
    --message-retention-duration=31d --expiration-period=never -- pubsub subscriptions describe "$NAME-dead-letters"
made pubsub subscriptions create "$NAME-undelivered" --topic="$NAME-undelivered" --message-retention-duration=7d \
    --expiration-period=never -- pubsub subscriptions describe "$NAME-undelivered"

for name in relay worker scheduler; do
    made iam service-accounts create "$NAME-$name" -- iam service-accounts describe "$(account "$name")"
done

granted worker roles/dataflow.worker "takes work from Dataflow, and reports on it and its logs" \
    projects add-iam-policy-binding "$PROJECT"
granted worker roles/datastore.user "reads the snapshot, and writes rows, tombstones and control documents" \
    projects add-iam-policy-binding "$PROJECT"
granted scheduler roles/dataflow.developer "launches the template of the backfill" \
    projects add-iam-policy-binding "$PROJECT"
granted relay roles/eventarc.eventReceiver "receives Firestore's events from Eventarc" \
    projects add-iam-policy-binding "$PROJECT"
if [ "$CONSISTENCY" = commit ]; then
    granted worker roles/pubsub.editor "makes the subscription by which Dataflow tracks event times" \
        projects add-iam-policy-binding "$PROJECT"
fi
granted relay roles/pubsub.publisher "publishes the changes" pubsub topics add-iam-policy-binding changes
granted worker roles/pubsub.publisher "a backfill asks the stream by its topic to write rows that differ" \
    pubsub topics add-iam-policy-binding changes
granted worker roles/pubsub.publisher "publishes dead letters" \
    pubsub topics add-iam-policy-binding "$NAME-dead-letters"
granted worker roles/pubsub.subscriber "pulls and acknowledges the changes" \
    pubsub subscriptions add-iam-policy-binding "$NAME"
granted worker roles/pubsub.viewer "the launcher looks for the subscription's topic and deadline" \
    pubsub subscriptions add-iam-policy-binding "$NAME"
granted worker roles/storage.objectUser "writes the job's object and temporary files, and reads them" \
    storage buckets add-iam-policy-binding "gs://$PROJECT-boiler-beam"
granted worker roles/storage.legacyBucketReader "Beam looks whether the bucket is there before it makes a job" \
    storage buckets add-iam-policy-binding "gs://$PROJECT-boiler-beam"
granted scheduler roles/storage.objectViewer "reads the template's spec for the launch" \
    storage buckets add-iam-policy-binding "gs://$PROJECT-boiler-beam"
granted worker roles/artifactregistry.reader "pulls the image of launcher and workers" \
    artifacts repositories add-iam-policy-binding boiler-beam --location="$REGION"
granted scheduler roles/iam.serviceAccountUser "starts jobs that run as the workers' account" \
    iam service-accounts add-iam-policy-binding "$(account worker)"

do_ gcloud functions deploy "$NAME-relay" --gen2 --region="$REGION" --runtime=python312 \
    --source="$HERE/relay/function" --entry-point=relay --trigger-location="$LOCATION" \
    --trigger-event-filters=type=google.cloud.firestore.document.v1.written \
    --trigger-event-filters=database="$DATABASE" --retry --memory=512Mi --concurrency=80 --cpu=1 \
    --service-account="$(account relay)" --trigger-service-account="$(account relay)" \
    --set-env-vars="BOILER_BEAM_TOPIC=projects/$PROJECT/topics/changes" --project="$PROJECT"
granted relay roles/run.invoker "Eventarc calls the function as this account" \
    run services add-iam-policy-binding "$NAME-relay" --region="$REGION"
