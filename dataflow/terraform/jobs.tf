resource "google_dataflow_flex_template_job" "stream" {
  provider                = google
  count                   = local.has_jobs
  name                    = var.name
  region                  = var.region
  container_spec_gcs_path = "${var.template}/streaming.json"
  parameters = {
    source      = "${local.address},pubsub:${google_pubsub_subscription.views.id}"
    sink        = local.address
    dead_letter = local.dead_where
    consistency = var.consistency
  }
  sdk_container_image     = var.image
  service_account_email   = google_service_account.account["worker"].email
  temp_location           = "${google_storage_bucket.templates.url}/temp"
  staging_location        = "${google_storage_bucket.templates.url}/staging"
  enable_streaming_engine = true
  max_workers             = var.max_workers
  machine_type            = var.machine_type
  # A job that is destroyed writes what it has read.
  on_delete  = "drain"
  depends_on = [google_project_iam_member.grant, google_storage_bucket_iam_member.grant]
}

resource "google_cloud_scheduler_job" "backfill" {
  count     = local.has_jobs
  name      = "${var.name}-backfill"
  region    = var.region
  schedule  = var.schedule
  time_zone = "Etc/UTC"
  # A launch is not repeated: the next one of the schedule does the same.
  retry_config {
    retry_count = 0
  }
  http_target {
    http_method = "POST"
    uri         = "https://dataflow.googleapis.com/v1b3/projects/${var.project}/locations/${var.region}/flexTemplates:launch"
    headers     = { "Content-Type" = "application/json" }
    body = base64encode(jsonencode({
      launchParameter = {
        jobName              = "${var.name}-backfill"
        containerSpecGcsPath = "${var.template}/backfill.json"
        parameters = {
          source      = local.address
          sink        = local.address
          dead_letter = local.dead_where
        }
        environment = {
          tempLocation        = "${google_storage_bucket.templates.url}/temp"
          stagingLocation     = "${google_storage_bucket.templates.url}/staging"
          sdkContainerImage   = var.image
          serviceAccountEmail = google_service_account.account["worker"].email
          maxWorkers          = var.max_workers
          machineType         = var.machine_type
        }
      }
    }))
    oauth_token {
      service_account_email = google_service_account.account["scheduler"].email
    }
  }
  depends_on = [google_project_service.needed]
}
