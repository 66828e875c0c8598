# Firestore's events go to functions, not to topics: this one publishes each of them.

data "archive_file" "relay" {
  type        = "zip"
  source_dir  = "${path.module}/../relay/function"
  output_path = "${path.module}/.terraform/relay.zip"
  lifecycle {
    precondition {
      condition     = fileexists("${path.module}/../relay/function/${var.relay_wheel}")
      error_message = "Expected the wheel of boiler_beam in dataflow/relay/function; fix: pip wheel --no-deps -w dataflow/relay/function ."
    }
  }
}

resource "google_storage_bucket_object" "relay" {
  name   = "relay/${data.archive_file.relay.output_md5}.zip"
  bucket = google_storage_bucket.templates.name
  source = data.archive_file.relay.output_path
}

resource "google_cloudfunctions2_function" "relay" {
  name     = "${var.name}-relay"
  location = var.region
  build_config {
    runtime     = "python312"
    entry_point = "relay"
    source {
      storage_source {
        bucket = google_storage_bucket.templates.name
        object = google_storage_bucket_object.relay.name
      }
    }
  }
  service_config {
    available_memory                 = "512Mi"
    available_cpu                    = "1"
    max_instance_request_concurrency = 80
    service_account_email            = google_service_account.account["relay"].email
    environment_variables            = { BOILER_BEAM_TOPIC = google_pubsub_topic.changes.id }
  }
  event_trigger {
    trigger_region = var.database_location
    event_type     = "google.cloud.firestore.document.v1.written"
    # Without it an event is lost when the topic can't be reached.
    retry_policy          = "RETRY_POLICY_RETRY"
    service_account_email = google_service_account.account["relay"].email
    event_filters {
      attribute = "database"
      value     = var.database
    }
    event_filters {
      attribute = "document"
      value     = var.relay_document_pattern
      operator  = "match-path-pattern"
    }
  }
  depends_on = [google_project_iam_member.grant, google_pubsub_topic_iam_member.grant]
}
