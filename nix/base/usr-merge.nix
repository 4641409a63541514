# For a script whose working directory holds unpacked packages.
''
  # Debian 12's packages still ship /bin and /lib apart from /usr; its installed systems do not.
  for dir in bin sbin lib lib64; do
    mkdir -p usr/$dir
    [ ! -d $dir ] || cp -a $dir/. usr/$dir/
    rm -rf $dir
    ln -s usr/$dir $dir
  done''
