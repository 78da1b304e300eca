# frozen_string_literal: true

# A music archive as people write them: Rails 6.1, Active Storage with its stock endpoints, and an API
# with tokens. The tests deliver to it (tests/support/rails.rs); each has an account of its own, which says
# how the archive behaves:
#
#   may_upload     false: uploads are forbidden
#   once           what becomes of a record that is there already: unique (409, names the record), key
#                  (found by Idempotency-Key), lookup (GET songs/by_blob), no (there are two), silent
#                  (the same, and nothing is told of records)
#   token_seconds  how long a token is good for
#   url_seconds    how long the URL of an upload is good for
#
# ARCHIVE_DIR is where the database and the files are; ARCHIVE_S3 the endpoint of an S3 service that keeps
# the files instead, in ARCHIVE_BUCKET.

require "rails"
require "active_record/railtie"
require "active_job/railtie"
require "action_controller/railtie"
require "active_storage/engine"

ARCHIVE = { dir: ENV.fetch("ARCHIVE_DIR"), s3: ENV["ARCHIVE_S3"] }.freeze

# SQLite has one writer; uploads of bytes do not write to it.
class OneWriter
  def initialize(app)
    @app = app
    @lock = Mutex.new
  end

  def call(env)
    env["REQUEST_METHOD"] == "POST" ? @lock.synchronize { @app.call(env) } : @app.call(env)
  end
end

class Archive < Rails::Application
  config.load_defaults 6.1
  config.root = ARCHIVE[:dir]
  config.eager_load = true
  config.consider_all_requests_local = false
  config.secret_key_base = "of the tests, and no secret" * 4
  config.logger = Logger.new($stdout)
  config.log_level = :info
  config.active_storage.service_configurations = {
    "disk" => { "service" => "Disk", "root" => "#{ARCHIVE[:dir]}/storage" },
    "s3" => {
      "service" => "S3",
      "access_key_id" => ENV["AWS_ACCESS_KEY_ID"],
      "secret_access_key" => ENV["AWS_SECRET_ACCESS_KEY"],
      "region" => "us-east-1",
      "bucket" => ENV["ARCHIVE_BUCKET"],
      "endpoint" => ARCHIVE[:s3],
      "force_path_style" => true
    }
  }.slice(ARCHIVE[:s3] ? "s3" : "disk")
  config.active_storage.service = ARCHIVE[:s3] ? :s3 : :disk
  config.middleware.insert_before 0, OneWriter
end

Rails.application.routes.append do
  scope "/api/v1" do
    post "auth/login", to: "sessions#create"
    post "songs/direct_upload", to: "songs#direct_upload"
    post "songs/create_from_blob", to: "songs#create_from_blob"
    get "songs/by_blob", to: "songs#by_blob"
  end
  get "songs/:id", to: "pages#song"
end

# Instead of a config/database.yml.
ENV["DATABASE_URL"] = "sqlite3:#{ARCHIVE[:dir]}/archive.db?pool=32&timeout=60000"
Rails.application.initialize!

class User < ActiveRecord::Base
  has_many :tokens
  has_many :songs
end

class Token < ActiveRecord::Base
  belongs_to :user
end

class Song < ActiveRecord::Base
  belongs_to :user
  serialize :metadata, JSON
  has_one_attached :audio
  validates :title, presence: true
end

# What was asked, for the tests to count.
class Event < ActiveRecord::Base; end

def event(name, user)
  Event.create!(name: name, user_id: user&.id)
end

class ApiController < ActionController::API
  include ActionController::HttpAuthentication::Token::ControllerMethods
  include ActiveStorage::SetCurrent

  rescue_from ActiveSupport::MessageVerifier::InvalidSignature, ActiveRecord::RecordNotFound do
    render json: { error: "no such blob" }, status: :not_found
  end

  private

  def authenticate
    token = authenticate_with_http_token { |secret, _| Token.find_by(secret: secret) }
    @user = token&.user
    return if token && !token.revoked && token.expires_at.future?

    event("unauthorized", @user)
    render json: { error: "Invalid or expired token" }, status: :unauthorized
  end

  def may_upload
    return if @user.may_upload

    render json: { error: "You are not allowed to upload songs" }, status: :forbidden
  end
end

class SessionsController < ApiController
  def create
    user = User.find_by(email: params[:email])
    event("login", user)
    unless user && user.password == params[:password]
      return render json: { error: "Invalid email or password" }, status: :unauthorized
    end

    expires_at = user.token_seconds.seconds.from_now
    token = user.tokens.create!(secret: SecureRandom.hex(32), expires_at: expires_at)
    render json: { api_token: token.secret, user: { email: user.email } }
  end
end

class SongsController < ApiController
  before_action :authenticate, :may_upload

  TYPES = %r{\A(audio|image|video|text|application)/}.freeze
  LARGEST = 50.megabytes

  def direct_upload
    asked = params.require(:blob).permit(:filename, :byte_size, :checksum, :content_type)
    event("direct_upload", @user)
    refused = refusal(asked)
    return render json: { errors: [refused] }, status: :unprocessable_entity if refused

    blob = ActiveStorage::Blob.create_before_direct_upload!(**asked.to_h.symbolize_keys)
    render json: {
      signed_id: blob.signed_id,
      direct_upload: {
        url: blob.service_url_for_direct_upload(expires_in: @user.url_seconds.seconds),
        headers: blob.service_headers_for_direct_upload
      }
    }
  end

  def create_from_blob
    event("create", @user)
    blob = ActiveStorage::Blob.find_signed!(params.require(:blob_signed_id))
    key = request.headers["Idempotency-Key"]
    there = existing(blob, key)
    return render json: { song: show(there) } if there && @user.once == "key"
    if there && @user.once == "unique"
      return render json: { error: "This song is there already", song: show(there) }, status: :conflict
    end
    return render json: { errors: ["the upload has no bytes"] }, status: :unprocessable_entity unless stored?(blob)

    metadata = params[:metadata]&.permit!.to_h
    song = @user.songs.new(title: metadata["title"], filename: params[:filename], metadata: metadata, key: key)
    song.audio.attach(blob)
    if song.save && @user.once == "silent"
      head :created
    elsif song.save
      render json: { song: show(song) }, status: :created
    else
      render json: { errors: song.errors.full_messages }, status: :unprocessable_entity
    end
  end

  def by_blob
    song = of_blob(ActiveStorage::Blob.find_signed!(params.require(:blob_signed_id)))
    event("lookup", @user)
    song ? render(json: { song: show(song) }) : head(:not_found)
  end

  private

  def refusal(asked)
    return "Files of this type are not accepted" unless TYPES.match?(asked[:content_type])

    "File is too large (maximum is 50 MB)" if asked[:byte_size].to_i > LARGEST
  end

  def existing(blob, key)
    case @user.once
    when "key" then @user.songs.find_by(key: key) if key
    when "unique" then of_blob(blob) || of_content(blob)
    end
  end

  def of_blob(blob)
    ActiveStorage::Attachment.find_by(blob_id: blob.id, record_type: "Song")&.record
  end

  # The same music twice.
  def of_content(blob)
    return unless blob.content_type == "audio/mpeg"

    same = { active_storage_blobs: { checksum: blob.checksum } }
    @user.songs.joins(audio_attachment: :blob).find_by(same)
  end

  def stored?(blob)
    blob.service.exist?(blob.key)
  end

  def show(song)
    { id: song.id, title: song.title, url: "#{request.base_url}/songs/#{song.id}" }
  end
end

class PagesController < ActionController::Base
  def song
    redirect_to rails_blob_url(Song.find(params[:id]).audio)
  end
end

# The stock endpoint is open to holders of a token; from others it wants the token of a form.
ActiveStorage::DirectUploadsController.class_eval do
  include ActionController::HttpAuthentication::Token::ControllerMethods
  skip_forgery_protection if: -> { request.authorization.present? }
  before_action if: -> { request.authorization.present? } do
    authenticate_or_request_with_http_token do |secret, _|
      Token.exists?(secret: secret, revoked: false, expires_at: Time.current..)
    end
  end
end

ActiveRecord::Schema.verbose = false
ActiveRecord::Base.connection.execute("PRAGMA journal_mode = WAL")
ActiveRecord::Schema.define do
  next if table_exists?(:songs)

  create_table :users do |t|
    t.string :email, null: false
    t.string :password, null: false
    t.boolean :may_upload, null: false
    t.string :once, null: false
    t.integer :token_seconds, null: false
    t.integer :url_seconds, null: false
  end
  create_table :tokens do |t|
    t.references :user, null: false
    t.string :secret, null: false, index: true
    t.datetime :expires_at, null: false
    t.boolean :revoked, null: false, default: false
  end
  create_table :songs do |t|
    t.references :user, null: false
    t.string :title, null: false
    t.string :filename
    t.text :metadata
    t.string :key, index: true
    t.timestamps
  end
  create_table :events do |t|
    t.string :name, null: false
    t.references :user
    t.datetime :created_at
  end
  # The tables that `rails active_storage:install` makes.
  require ActiveStorage::Engine.root.join("db/migrate/20170806125915_create_active_storage_tables")
  CreateActiveStorageTables.new.change
end
